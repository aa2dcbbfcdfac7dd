"""How fast does a folder of MIDI become a corpus, and does that change with its size?

    python -m benchmarks.encode --source=../shared/midi/pop909
    python -m benchmarks.encode --source=../shared/midi/pop909 --files=100000

What bounds it. A file of 10 kB is parsed by symusic (C++) in half a millisecond; choosing the
part, the key, the tokens or the matrix, and what the report will want to know, take another few
milliseconds of Python and numpy. Files do not know of each other, so that scales with cores; what
is left for the end, copies, splits and the ids of tokens, is done once, in one process, and reads
what the workers wrote a second time. Disk is not the bound: Lakh is 6 GB.

Whole encodings are timed, from a folder of files to a corpus folder, with the workers' server
already started (that start is reported apart); reading alone, on one core, beside pretty_midi and
music21 reading the same files. With --files, so many different files are made of the source's (each
lacks a note or two), and a tenth of them and all are encoded by the command line: time and memory a
file must not grow. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from benchmarks import machine
from configs import nsm, vocab
from musicjax.corpus import build
from musicjax.music import midi
from musicjax.sources import open_source
from musicjax.system import workers

LAKH = 176_581  # files


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", required=True, help="folder of MIDI files")
    parser.add_argument("--rounds", type=int, default=3, help="whole encodings that count")
    parser.add_argument("--files", type=int, default=0, help="make so many, and encode them")
    parser.add_argument("--keep", help="folder for those files; kept, and used again")
    arguments = parser.parse_args()
    result = {
        "benchmark": "encode",
        **machine.facts(("symusic", "pretty_midi", "music21", "numpy")),
    }
    files = open_source(arguments.source).find()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.files:
            result |= at_size(files, arguments.files, Path(arguments.keep or folder), Path(folder))
        else:
            result |= small(arguments.source, files, arguments.rounds, Path(folder))
    print(json.dumps(result))


def small(source: str, files: list, rounds: int, folder: Path) -> dict:
    """The source as it is, in both encodings, beside other readers."""
    configs = {"tokens": vocab.get_config(), "note states": nsm.get_config()}
    for config in configs.values():
        config.data.source, config.data.track, config.data.songs = source, "all", 0

    def whole(name: str, number_of_workers: int) -> float:
        output = folder / "corpus"

        def plan_and_encode() -> None:
            plan = build.make_plan(configs[name].data)
            if plan is None:
                raise SystemExit(f"--source={source} is a corpus folder; expected MIDI files")
            build.encode_corpus(plan, output, number_of_workers=number_of_workers)

        seconds = timed(plan_and_encode)
        shutil.rmtree(output)
        return seconds

    cold = whole("tokens", workers.cores())
    rates: dict[tuple[str, int], list[float]] = {}
    counts = sorted({1, workers.cores()})
    for _ in range(rounds):
        for name in configs:
            for count in counts:
                rates.setdefault((name, count), []).append(len(files) / whole(name, count))
    result: dict = {"files": len(files), "files_per_second": {}}
    print(f"{len(files)} files; the first encoding started the workers and took {cold:.1f} s")
    for (name, count), several in rates.items():
        median = statistics.median(several)
        result["files_per_second"][f"{name}, {count} workers"] = [round(r, 1) for r in several]
        print(
            f"{name:12} {count} workers {median:7.0f} files/s "
            f"({min(several):.0f}-{max(several):.0f}); Lakh in {LAKH / median / 60:.0f} minutes"
        )

    # A few seconds of each reader; music21 takes that long for one file.
    import music21
    import pretty_midi

    readers: dict[str, tuple[Callable, int]] = {
        "musicjax": (midi.read_song, 100),
        "pretty_midi": (pretty_midi.PrettyMIDI, 20),
        "music21": (lambda path: music21.converter.parse(path, forceSource=True), 2),
    }
    spread = {name: files[:: -(-len(files) // n)] for name, (_, n) in readers.items()}
    alone = {
        name: statistics.mean(timed(lambda f=f, r=reader: r(str(f.path))) for f in spread[name])
        for name, (reader, _) in readers.items()
    }
    one = 1 / statistics.median(rates["tokens", 1])
    for name in ("pretty_midi", "music21"):
        result[f"{name}_ms"] = round(1e3 * alone[name], 1)
        result[f"read_ratio_to_{name}"] = round(alone[name] / alone["musicjax"], 1)
        result[f"encode_ratio_to_{name}"] = round(alone[name] / one, 1)
        print(
            f"{name} reads a file in {1e3 * alone[name]:.0f} ms, musicjax in "
            f"{1e3 * alone['musicjax']:.2f} ms: {alone[name] / alone['musicjax']:,.0f} times as "
            f"fast; one worker has encoded it, written and all, {alone[name] / one:,.0f} times "
            "over"
        )
    return result | {"read_ms": round(1e3 * alone["musicjax"], 2), "cold_s": round(cold, 2)}


def timed(call: Callable) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def at_size(files: list, number: int, made: Path, folder: Path) -> dict:
    """A tenth of so many files, and all of them."""
    songs = made / "songs"
    if not songs.is_dir():
        print(f"making {number} files took {timed(lambda: make(files, number, songs)):.0f} s")
    rows: list[dict] = []
    for part in ("0*", "*"):
        source = songs
        if part != "*":
            source = folder / "tenth"
            source.mkdir()
            for path in songs.glob(part):
                os.link(path, source / path.name)
        rows.append(run(source, folder / f"corpus{len(rows)}"))
        row = rows[-1]
        print(
            f"{row['files']:7d} files in {row['seconds']:.0f} s: {row['files_per_second']:.0f} "
            f"files/s; {row['types']} types; peak memory {row['parent_mib']:.0f} MiB, a worker "
            f"{row['worker_mib']:.0f} MiB"
        )
    last = rows[-1]
    print(
        f"Lakh, {LAKH} files like these, would take "
        f"{LAKH / last['files_per_second'] / 60:.0f} minutes here"
    )
    return {"runs": rows}


def make(files: list, number: int, songs: Path) -> None:
    """Writes `number` MIDI files, no two of the same notes: each lacks notes of its own."""
    import numpy as np
    import symusic

    songs.mkdir(parents=True)
    scores = [symusic.Score(str(file.path)) for file in files]
    copies = -(-number // len(files))
    count = 0
    for copy in range(copies):
        for i, score in enumerate(scores):
            if count == number:
                return
            changed: Any = deepcopy(score)
            track = max(changed.tracks, key=lambda track: len(track.notes))
            rng = np.random.default_rng([copy, i])
            for _ in range(2 if copy else 0):
                del track.notes[int(rng.integers(len(track.notes)))]
            # The last digit comes first, so that those named 0... are a tenth of each.
            name = f"{count:06d}"[::-1]
            changed.dump_midi(songs / f"{name}.mid")
            count += 1


def run(source: Path, output: Path) -> dict:
    """The command line on a folder: seconds, and the most memory of its processes."""
    command = [
        *(sys.executable, "-m", "musicjax.encode", "--config=configs/vocab.py"),
        *(f"--config.data.source={source}", "--config.data.track=all", f"--output={output}"),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks: dict[int, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for pid in family(process.pid):
                peaks[pid] = max(peaks.get(pid, 0.0), peak_mib(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    manifest = json.loads((output / "manifest.json").read_text())
    parent = peaks.pop(process.pid, 0.0)
    return {
        "files": manifest["counts"]["files"],
        "songs": manifest["counts"]["songs"],
        "types": manifest["counts"]["types"],
        "seconds": round(seconds, 1),
        "files_per_second": round(manifest["counts"]["files"] / seconds, 1),
        "parent_mib": round(parent, 1),
        "worker_mib": round(max(peaks.values(), default=0.0), 1),
    }


def family(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += family(int(child))
        except OSError:  # it has ended meanwhile
            continue
    return found


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident, so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
