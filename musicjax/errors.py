"""What a user did or has that musicjax cannot work with."""


class InputError(ValueError):
    """Bad input. The message is one line: what was found, what was expected, what to do.

    The command lines print it without a traceback and end with status 2.
    """
