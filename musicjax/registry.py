"""What can be chosen by name in a config: encodings, models, sources, measures, sampling rules.

A name is known because it is ours, because a program registered it, or because an installed package
declares it as an entry point:

    [project.entry-points."musicjax.models"]
    gru = "my_package.gru:GRU"

What a name stands for is imported when it is first asked for, so that a command that only reads
MIDI files never imports jax.
"""

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from musicjax.errors import InputError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name, in the order in which they were added."""

    def __init__(self, kind: str, setting: str, builtin: dict[str, str | T]):
        """Names what is ours.

        Args:
            kind: plural, such as "models"; the group of entry points is musicjax.<kind>.
            setting: the config field or flag that takes a name, for messages.
            builtin: things, or where they are to be imported from: "package.module:attribute".
        """
        self._kind, self._setting = kind, setting
        self._things: dict[str, str | T] = dict(builtin)
        self._searched = False

    def register(self, name: str, thing: T) -> T:
        """Adds a thing from outside, in place of any that has the name, and returns it."""
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            self._search()
        if name not in self._things:
            raise InputError(
                f"{self._setting} is {name!r}; expected one of {', '.join(self._things)}"
            )
        thing = self._things[name]
        if isinstance(thing, str):
            module, _, attribute = thing.partition(":")
            thing = self._things[name] = getattr(importlib.import_module(module), attribute)
        return cast(T, thing)

    def __contains__(self, name: object) -> bool:
        self._search()
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        self._search()
        return iter(list(self._things))

    def __len__(self) -> int:
        self._search()
        return len(self._things)

    def _search(self) -> None:
        """Looks once for entry points; names that are taken keep what they stand for."""
        if not self._searched:
            self._searched = True
            for found in importlib.metadata.entry_points(group=f"musicjax.{self._kind}"):
                self._things.setdefault(found.name, found.value)
