"""How fast does a song become sound, and of what does the time consist?

    python -m benchmarks.render [--songs=4]

What bounds it. midirenderer plays the SoundFont in compiled code, on one thread: some four voices
at once take 8 ms a second of music. Mastering passes a dozen times over 48,000 pairs of samples a
second, in numpy and scipy: memory bounds it. FLAC and WAV files cost next to nothing, Ogg Vorbis as
much as mastering, and LAME's MP3 more than all the rest.

With the file counted, WAV and FLAC reach the target on one core (71 and 66 times real time); Ogg
(48) and MP3 (27) do not, the encoders being what they are. LAME's own setting between speed and
quality, which would do most, is not one of libsndfile's: of those, the lowest bit rate (90 kbit/s)
gains 1.15, and a constant rate loses. lameenc has it, and at quality 5 is 2.6 to 3.7 times as fast
(1.5 times with all the rest counted), but writes no header with LAME's delay: music begins 23 ms
late, and players guess the length of files of a variable rate.

Bach's chorales, on one core; each is rendered once to warm up, then ROUNDS times. Times real time
is the seconds of music by the seconds that the core worked for it, so that what else runs on the
machine counts less. The target is 60 for a song as sound (play and master). The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time

from benchmarks import machine

ROUNDS = 5
TARGET = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--songs", type=int, default=4, help="chorales to render")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

    from musicjax.music import midi, notation
    from musicjax.rendering import audio
    from musicjax.sources import open_source

    settings = audio.AudioSettings()
    found = open_source("chorales").find()[:: max(350 // arguments.songs, 1)][: arguments.songs]
    songs = [midi.read_song(file.path) for file in found]
    rates: dict[str, list[float]] = {}
    seconds = sum(song.seconds for song in songs)
    for turn in range(ROUNDS + 1):
        times: dict[str, float] = {}

        def timed(name: str, function, *words, times: dict[str, float] = times):
            started = time.process_time()
            result = function(*words)
            times[name] = times.get(name, 0) + time.process_time() - started
            return result

        for song in songs:
            played = timed("play", audio.synthesise, song)
            sound = timed("master", audio.master, played, audio.RATE, settings)
            for name in audio.FORMATS:
                timed(name, audio.encoded, sound, name)
            timed("musicxml", notation.to_musicxml, song)
        times["sound"] = times["play"] + times["master"]
        for name in audio.FORMATS:
            times[f"to .{name}"] = times["sound"] + times[name]
        if turn:  # the first warms up
            for name, spent in times.items():
                rates.setdefault(name, []).append(seconds / spent)
    print(f"{len(songs)} chorales, {seconds:.0f} s of music, one core; {audio.synthesiser()}")
    print(f"{'':10}{'times real time':>17}{'spread':>14}")
    for name, several in rates.items():
        spread = f"{min(several):.0f}-{max(several):.0f}"
        print(f"{name:10}{statistics.median(several):17.0f}{spread:>14}")
    result = {
        "benchmark": "render",
        "songs": len(songs),
        "seconds_of_music": round(seconds, 1),
        "times_real_time": {name: round(statistics.median(r), 1) for name, r in rates.items()},
        "target": TARGET,
        **machine.facts(("numpy", "midirenderer", "soundfile", "pyloudnorm", "music21")),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
