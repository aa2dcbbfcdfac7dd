"""Models that come with musicjax, ready to make music: each a folder that musicjax.export wrote,
with its model card. scripts/train_chorales.sh makes them.
"""

from pathlib import Path

from musicjax.errors import InputError

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """What they are called."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def find(name: str) -> Path:
    """The folder of a model, which does wherever a work dir does.

    Raises:
        InputError: there is none of this name.
    """
    if name not in names():
        raise InputError(
            f"model is {name!r}, which does not come with musicjax; expected "
            f"{' or '.join(map(repr, names()))}, or --workdir=FOLDER for one of your own"
        )
    return _FOLDER / name
