"""Symbolic music with LSTMs in JAX/Flax.

The rooms, in the order the data flows (a module imports only from above):

    song, midi, key, part, vocabulary   a song, and its tokens
    corpora, encode, dataset            folders of songs -> a corpus on disk -> batches
    models, checkpoint, loop, train     batches -> a trained model in a work dir
    piano_roll, sampler, generate       a work dir -> MIDI files and pictures
    evaluate                            a work dir -> figures beside baselines
"""

__version__ = "0.1.0"
