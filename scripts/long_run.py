"""A long run in one process: memory, open files, threads and disk must not grow.

    python scripts/long_run.py [--steps=20000] [--tokens=100000]

Trains a small model on Bach's chorales, with an evaluation and a checkpoint each 200 steps or so,
then generates. Prints how much of each is held as it goes on; ends with status 1 if anything grew.

What is held wavers, as saves end in threads of their own and allocators keep some for later: so the
least of the second quarter is compared with the least of the last one. What each epoch or call
left behind would be in both, some fifty times more in the last.
"""

import argparse
import gc
import os
import tempfile
from pathlib import Path

import musicjax

TOKENS_PER_CALL = 2000
# Far less than one for each epoch or call, of which there are 26 to 54 between the quarters.
MAY_GROW = {"MB of memory": 20, "open files": 4, "threads": 4, "MB on disk": 2}


class Curves:
    """What this process holds, as it goes on."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def note(self, name: str, count: int) -> None:
        """Notes what is held after so many steps or tokens."""
        gc.collect()
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
        """By how much more is held at the least in the last quarter than in the second."""
        quarter = max(1, len(self.rows) // 4)
        early, late = self.rows[quarter : 2 * quarter], self.rows[-quarter:]
        return {
            name: min(row[name] for row in late) - min(row[name] for row in early)
            for name in MAY_GROW
        }


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
    status = 0
    for name, curves in (("training", trained), ("generating", made)):
        grown = curves.grown()
        print(f"{name}, more at the end:", *(f"{more:+.4g} {of}," for of, more in grown.items()))
        status |= any(more > MAY_GROW[of] for of, more in grown.items())
    print("something has grown" if status else "nothing has grown")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
