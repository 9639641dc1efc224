"""Print lines on a terminal that may be showing a progress bar."""

import sys
from shutil import get_terminal_size
from typing import TextIO


def say(text: str, file: TextIO | None = None) -> None:
    """Print `text` to `file` (default: stdout) on a line of its own: a progress bar or `^C` there is erased first."""
    for stream in (sys.stdout, file):
        if stream and stream.isatty():  # stdout is None if it is closed
            print('\r' + ' ' * (get_terminal_size().columns - 1), end='\r', file=stream, flush=True)
    print(text, file=file)
