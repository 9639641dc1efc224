"""Progress bars where somebody sees them: in a log file their control characters would flood it."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO

from fastcore.imports import in_notebook
from fastprogress import progress_bar
from fastprogress.fastprogress import MasterBar, ProgressBar


def shows_bars() -> bool:
    """Whether the output can draw one."""
    return in_notebook() or sys.stdout.isatty()


def progress(items: Sequence, caption: str) -> Iterator:
    """`items`, with a bar on a terminal or in a notebook, which goes when the loop ends, by a `break` too.

    `caption` names the work: before the bar on a terminal, after it in a notebook.
    """
    if not items or not shows_bars():
        yield from items
        return
    bar = captioned(items, caption)
    try:
        yield from bar
    finally:
        end(bar)  # which fastprogress itself does only after the last item


def captioned(items: Iterable, caption: str, parent: MasterBar | None = None) -> ProgressBar:
    """fastprogress's bar over `items`, which goes at its end; below a `parent`, which has its own captions, without."""
    bar = progress_bar(items, parent=parent, leave=False)
    if not parent:
        setattr(bar, 'comment' if in_notebook() else 'prefix', caption)
    return bar


def end(bar: ProgressBar) -> None:
    """Erase `bar` with its caption, which fastprogress would leave on a terminal's line."""
    bar.prefix = ''
    bar.on_iter_end()


@contextmanager
def without_bars_in_logs() -> Iterator[None]:
    """Keep a library's bars from an output that draws none: fastprogress asks whether it has `isatty`, no more."""
    with nullcontext() if shows_bars() else redirect_stdout(StringIO()):
        yield
