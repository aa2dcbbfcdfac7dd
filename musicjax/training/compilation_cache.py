"""The cache of compiled programs, so that the next start need not compile them."""

import sys

import jax

from musicjax.errors import InputError
from musicjax.system import cache


def enable() -> None:
    """Keeps compiled programs in the user's cache folder, unless jax has another setting.

    JAX_COMPILATION_CACHE_DIR names another folder; JAX_ENABLE_COMPILATION_CACHE=0 keeps none.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        try:
            cache.expect_writable()
        except InputError as error:
            print(f"programs are compiled anew each time: {error}", file=sys.stderr)
            return
        jax.config.update("jax_compilation_cache_dir", str(cache.root() / "compiled"))
    # By default only what takes a second is kept; a start compiles many small programs too.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
