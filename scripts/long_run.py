"""A long run in one process: memory, open files, threads and disk must not grow.

    python scripts/long_run.py [--steps=20000] [--tokens=100000]

Trains a small model on Bach's chorales, with an evaluation and a checkpoint each 200 steps or so,
then generates. Prints how much of each is held as it goes on; ends with status 1 if anything grew.
"""

import argparse
import os
import tempfile
from pathlib import Path

import musicjax

TOKENS_PER_CALL = 2000
# What may be added between the first third and the end: allocators and logs are never quite still.
MAY_GROW = {"MB of memory": 40, "open files": 8, "threads": 8, "MB on disk": 2}


class Curves:
    """What this process holds, as it goes on."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def note(self, name: str, count: int) -> None:
        """Notes what is held after so many steps or tokens."""
        row: dict[str, float] = {
            name: count,
            "MB of memory": _resident_bytes() / 1e6,
            "open files": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "MB on disk": sum(
                path.stat().st_size for path in self.folder.rglob("*") if path.is_file()
            )
            / 1e6,
        }
        self.rows.append(row)
        if len(self.rows) % 10 == 1:
            print(", ".join(f"{value:,.6g} {name}" for name, value in row.items()), flush=True)

    def grown(self) -> dict[str, float]:
        """What has grown by more than it may, and by how much: the last tenth beside a tenth after
        the first third.
        """
        tenth, third = max(1, len(self.rows) // 10), len(self.rows) // 3
        early, late = self.rows[third : third + tenth], self.rows[-tenth:]
        by = {
            name: (sum(row[name] for row in late) - sum(row[name] for row in early)) / tenth
            for name in MAY_GROW
        }
        return {name: more for name, more in by.items() if more > MAY_GROW[name]}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--source", default="chorales")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"data.source": given.source, "train.stride": 16, "train.epochs": 1}
        config = musicjax.get_config("vocab:tiny_causal", **settings)
        workdir = Path(folder, "run")
        trained, made = Curves(workdir), Curves(workdir)
        steps_per_epoch = musicjax.train(config, workdir).metrics[-1]["step"]
        config.train.epochs = max(2, given.steps // steps_per_epoch)
        run = musicjax.train(
            config, workdir, callbacks=[lambda line, params: trained.note("steps", line["step"])]
        )
        for count in range(0, given.tokens, TOKENS_PER_CALL):
            pieces = run.generate(num=8, length=TOKENS_PER_CALL // 8, seed=count)
            musicjax.write_pieces(pieces, Path(folder, "pieces"))
            made.note("tokens", count + TOKENS_PER_CALL)
    grown = trained.grown() | made.grown()
    print(f"grown: {grown}" if grown else "nothing has grown")
    return bool(grown)


if __name__ == "__main__":
    raise SystemExit(main())
