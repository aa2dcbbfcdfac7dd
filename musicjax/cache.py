"""Says where encoded songs and compiled programs are kept, and how large; deletes them.

    python -m musicjax.cache --info
    python -m musicjax.cache --clear

What is deleted is made again when it is needed. Work dirs need none of it.
"""

import os
from typing import Any

from musicjax import cli
from musicjax.errors import InputError
from musicjax.system import cache


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_bool("info", False, "Say where it is and how large; so it is without a flag.")
    flags.DEFINE_bool("clear", False, "Delete it.")


def _main(flags: Any) -> None:
    if flags.info and flags.clear:
        raise InputError("--info and --clear are both given; give one of the two")
    if flags.clear:
        print(f"{cache.root()}: {_megabytes(cache.clear())} deleted")
        return
    found = cache.contents()
    for path, entries, size in found:
        print(f"{_megabytes(size):>12}  {path} ({entries} entries)")
    print(f"{_megabytes(sum(row.size for row in found)):>12}  {cache.root()}")
    elsewhere = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if elsewhere:
        print(f"compiled programs are in JAX_COMPILATION_CACHE_DIR, {elsewhere}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    cli.run(_main, _define_flags)
