"""Pages out of the templates beside this module; whatever text a song brings is escaped."""

import json
from pathlib import Path
from typing import Any


def render(name: str, **values: Any) -> str:
    """A page.

    Args:
        name: of a template, such as "listen.html".
        **values: that it shows.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined, finalize=_shown
    )
    return environment.from_string(_text(name)).render(**values)


def asset(*names: str) -> Any:
    """Styles or scripts of ours, one after another, as markup."""
    return _markup("\n".join(map(_text, names)))


def data(value: Any) -> Any:
    """JSON that a script of a page reads, as markup."""
    return _markup(json.dumps(value).replace("<", "\\u003c"))


def _shown(value: Any) -> Any:
    """What a page shows: of a song's texts what does not print is replaced. Markup is escaped by
    the page, but for our own.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value)


def _markup(text: str) -> Any:
    import markupsafe

    return markupsafe.Markup(text)


def _text(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
