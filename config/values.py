"""An option, and types of its values: each parses a value from the command line, and tells whether it is allowed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Number:
    """A number of type `kind` from `low` to `high`, or the string `word`; `allowed` says it in words."""

    kind: type
    low: float
    high: float
    allowed: str
    word: str | None = None

    def __call__(self, text: str) -> float | str:
        return text if text == self.word else self.kind(text)

    @property
    def metavar(self) -> str:
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
    """Non-empty text that can be a path: without NUL bytes."""

    allowed: str
    metavar = 'TEXT'

    def __call__(self, text: str) -> str:
        return text

    def allows(self, value: Any) -> bool:
        try:
            return isinstance(value, str) and value != '' and b'\0' not in os.fsencode(value)
        except UnicodeEncodeError:  # a lone surrogate, which JSON can hold
            return False


@dataclass(frozen=True)
class Choice:
    """One of `names`."""

    names: Sequence[str]

    @property
    def allowed(self) -> str:
        return f'one of {", ".join(self.names)}'

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.names


class Flag:
    """True or False."""

    allowed = 'true or false'

    def allows(self, value: Any) -> bool:
        return isinstance(value, bool)


def option(default: Any, values: Any, group: str, help: str, shown: str | None = None) -> Any:
    """A dataclass field with metadata for the command line; `shown` describes a default that isn't a fixed value."""
    shown = default if shown is None else shown
    return field(default=default, metadata={'values': values, 'group': group, 'help': help, 'shown': shown})
