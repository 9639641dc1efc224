"""Types of option values: parse a value from the command line, and check that it is allowed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """A number of type `kind` from `low` to `high`, or the string `word`."""

    kind: type
    low: float
    high: float
    allowed: str  # the allowed values in words, for error messages
    word: str | None = None

    def __call__(self, text: str) -> float | str:
        """Parse `text` from the command line; ValueError if it is not a number."""
        return text if text == self.word else self.kind(text)

    @property
    def metavar(self) -> str:
        """The placeholder in the help text."""
        return f'N|{self.word}' if self.word else 'N'

    @property
    def __name__(self) -> str:  # argparse shows it in its errors
        return self.kind.__name__ + (f' or {self.word}' if self.word else '')

    def allows(self, value: Any) -> bool:
        """Whether `value` is allowed: a bool is not a number, and an int counts as a float."""
        if isinstance(value, str):
            return value == self.word
        return type(value) in (int, self.kind) and self.low <= value <= self.high


@dataclass(frozen=True)
class Text:
    """Non-empty text without NUL bytes, which no path can contain."""

    allowed: str
    metavar = 'TEXT'

    def __call__(self, text: str) -> str:
        """Parse `text` from the command line."""
        return text

    def allows(self, value: Any) -> bool:
        """Whether `value` is allowed."""
        return isinstance(value, str) and value != '' and '\0' not in value and _is_encodable(value)


@dataclass(frozen=True)
class Choice:
    """One of `names`."""

    names: Sequence[str]

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages."""
        return f'one of {", ".join(self.names)}'

    def allows(self, value: Any) -> bool:
        """Whether `value` is allowed."""
        return isinstance(value, str) and value in self.names


@dataclass(frozen=True)
class Flag:
    """True if the option is given."""

    allowed: str = 'true or false'

    def allows(self, value: Any) -> bool:
        """Whether `value` is allowed."""
        return isinstance(value, bool)


def _is_encodable(text: str) -> bool:
    """Whether `text` can be a path: a lone surrogate, which JSON can hold, can't."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
