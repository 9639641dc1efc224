"""The one error that `main` shows as a line instead of a traceback."""


class UserError(ValueError):
    """What the user gave can't be used. The message is one line: what is wrong, where, and the way out."""
