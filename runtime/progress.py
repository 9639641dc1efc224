"""Progress bars on terminals and in notebooks only: their control characters would flood a log file."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO

from fastcore.imports import in_notebook
from fastprogress import progress_bar
from fastprogress.fastprogress import MasterBar, ProgressBar


def shows_bars() -> bool:
    """Whether the output can draw a progress bar."""
    return in_notebook() or sys.stdout.isatty()


def progress(items: Sequence, caption: str) -> Iterator:
    """Iterate over `items` with a progress bar and its `caption`, both erased when the loop ends, also by `break`."""
    if not items or not shows_bars():
        yield from items
        return
    bar = captioned(items, caption)
    try:
        yield from bar
    finally:
        end(bar)  # fastprogress does this only after the last item


def captioned(items: Iterable, caption: str, parent: MasterBar | None = None) -> ProgressBar:
    """fastprogress's bar over `items`, erased at its end. A bar below a `parent` has no caption: the parent has one."""
    bar = progress_bar(items, parent=parent, leave=False)
    if not parent:
        setattr(bar, 'comment' if in_notebook() else 'prefix', caption)
    return bar


def end(bar: ProgressBar) -> None:
    """Erase `bar` and its caption, which fastprogress would leave on the terminal."""
    bar.prefix = ''
    bar.on_iter_end()


@contextmanager
def without_bars_in_logs() -> Iterator[None]:
    """Suppress a library's progress bars in a log file: fastprogress only checks that `isatty` exists."""
    with nullcontext() if shows_bars() else redirect_stdout(StringIO()):
        yield
