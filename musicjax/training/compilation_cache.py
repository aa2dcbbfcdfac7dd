"""The cache of compiled programs, so that the next start need not compile them.

jax writes an entry as it comes and never again. What was cut short, by a kill or a full disk, it
warns of at each start; what has changed by a bit, it may run. In musicjax's own folder each entry
has a checksum: it is written whole or not at all, and one that is damaged is made anew.
"""

import hashlib
import sys

import jax
from jax._src import compilation_cache as of_jax  # it has no public way to say how entries are kept
from jax._src import lru_cache

from musicjax.errors import InputError
from musicjax.system import cache, files

_DIGEST = 32  # bytes of SHA-256, before each entry


class _Entries(lru_cache.LRUCache):
    """As jax keeps its entries, checked."""

    full = False

    def get(self, key: str) -> bytes | None:
        """An entry; None if there is none, or it was damaged and is removed."""
        path = self.path / key
        if not path.is_file():
            return None
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
            return content[_DIGEST:]
        print(f"a compiled program was damaged and is made anew: {path}", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Writes an entry. On a full disk no more is kept."""
        if self.full:
            return
        try:
            with files.new_file(self.path / key) as file:
                file.write(hashlib.sha256(value).digest() + value)
        except OSError as error:
            self.full = True
            print(f"compiled programs are not kept: {error}", file=sys.stderr)


def enable() -> None:
    """Keeps compiled programs in the user's cache folder, unless jax has another setting.

    JAX_COMPILATION_CACHE_DIR names another folder, which jax keeps in its own way;
    JAX_ENABLE_COMPILATION_CACHE=0 keeps none.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        try:
            cache.expect_writable()
        except InputError as error:
            print(f"programs are compiled anew each time: {error}", file=sys.stderr)
            return
        of_jax.LRUCache = _Entries  # pyright: ignore[reportPrivateImportUsage]
        jax.config.update("jax_compilation_cache_dir", str(cache.root() / "programs"))
    # By default only what takes a second is kept; a start compiles many small programs too.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
