"""Encoded songs as numpy arrays, for a network of one's own.

    python examples/song_arrays.py /my/midi arrays.npz events

encodes the songs by the encoding of a config (vocab: tokens; events; nsm: note state matrices) and
writes one array a song. songs.npz can be read without musicjax.
"""

import sys
import tempfile

import numpy as np

import musicjax


def main(folder: str, output: str, name: str = "events") -> None:
    config = musicjax.get_config(name, **{"data.source": folder})
    with tempfile.TemporaryDirectory() as temporary:
        corpus = musicjax.encode(config, f"{temporary}/corpus")
        encoding = corpus.encoding
        arrays = {song.name: encoding.unpack(corpus.rows(song)) for song in corpus.songs}
        for split in ("train", "validation", "test"):
            print(f"{split}: {len(corpus.split(split))} songs")
        song = corpus.songs[0]
        array = np.asarray(arrays[song.name])
        print(f"{song.name}: {array.dtype} {array.shape}: {encoding.text(array[:8])} ...")
        # And back: the layout says where the bars are.
        again = musicjax.decode_song(array, encoding, layout=song.layout, tempo=song.qpm)
        print(f"as a Song again: {again.num_notes} notes, {again.seconds:.0f} seconds")
        np.savez_compressed(output, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
