"""A folder of MIDI files to a piece of music.

    python examples/folder_to_piece.py /my/midi out

trains in some minutes and writes out/seed_0.mid, with a picture beside it.
"""

import sys

import musicjax


def main(folder: str, output: str, name: str = "vocab:quick") -> None:
    config = musicjax.get_config(name, **{"data.source": folder})
    run = musicjax.train(config, f"{output}/run")
    pieces = run.generate(num=1, seconds=30, temperature=0.9)
    for path in musicjax.write_pieces(pieces, output):
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
