"""Capture what C libraries write to stderr; `contextlib.redirect_stderr` only captures Python's output."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryFile
from typing import IO


@contextmanager
def c_stderr() -> Iterator[Callable[[], list[str]]]:
    """Redirect file descriptor 2 to a temporary file; yields a function that returns the lines written so far."""
    caught, stderr = _scratch(os.getpid()).fileno(), os.dup(2)

    def lines() -> list[str]:
        os.lseek(caught, 0, os.SEEK_SET)
        return os.read(caught, 10_000).decode(errors='replace').splitlines()

    sys.stderr.flush()
    os.ftruncate(caught, 0)
    os.lseek(caught, 0, os.SEEK_SET)
    os.dup2(caught, 2)
    try:
        yield lines
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@cache
def _scratch(process: int) -> IO[bytes]:
    """One temporary file for all images of a process: creating a file takes longer than decoding a small image."""
    return TemporaryFile()
