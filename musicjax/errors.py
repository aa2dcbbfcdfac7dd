"""What a user did or has that musicjax cannot work with."""

import unicodedata


class InputError(ValueError):
    """Bad input. The message is one line: what was found, what was expected, what to do.

    The command lines print it without a traceback and end with status 2.
    """


class SongError(InputError):
    """A file or a song that cannot be used, or is not wanted.

    Attributes:
        source: the file.
        reason: one word, by which reports count.
        detail: what was found.
    """

    def __init__(self, source: object, reason: str, detail: str):
        super().__init__(source, reason, detail)
        self.source, self.reason, self.detail = source, reason, detail

    def __str__(self) -> str:
        found = f"{self.reason}: {self.detail}"
        return f"{self.source}: {found}" if self.source else found


def one_line(text: str) -> str:
    """Text as a terminal may show it in one line: line breaks and what else controls a terminal,
    which names of files may hold, are escaped.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        else char
        for char in text
    )
