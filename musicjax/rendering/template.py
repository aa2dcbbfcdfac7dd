"""Pages out of the templates beside this module; whatever text a song brings is escaped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "templates"


def render(name: str, *, scripts: Sequence[str], data: Any = None, **values: Any) -> str:
    """A page, with its style and scripts in it.

    Args:
        name: of a template that fills in base.html, such as "listen.html".
        scripts: of the same folder, in order.
        data: what they read, by JSON, in the element "data"; None: nothing.
        **values: that the template shows, "title" among them.
    """
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    own = {
        "style": _text("style.css"),
        "script": "\n".join(map(_text, scripts)),
        "data": None if data is None else json.dumps(data).replace("<", "\\u003c"),
    }
    markup = {key: text and markupsafe.Markup(text) for key, text in own.items()}
    return environment.get_template(name).render(**values, **markup)


def _shown(value: Any) -> Any:
    """What a page shows: of a song's texts what does not print is replaced. Markup is escaped by
    the page, but for our own.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value)


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
