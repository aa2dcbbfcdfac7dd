"""Symbolic music with recurrent networks in JAX/Flax.

    sources -> music.Song -> encodings -> corpus -> models, training -> evaluation, generation

docs/architecture.md walks through the packages, docs/extending.md says how to add to them.
"""

__version__ = "0.1.0"
