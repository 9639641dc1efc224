"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import time


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """A temporary path to write to; if all goes well it becomes `path`, else it goes and `path` is as it was.

    The file that was there before is kept as `keep`. Makes the folder. An OSError names `path`. (fastcore's
    `atomic_save` does much the same, but its files can be read by their owner only.)
    """
    # not from its name, which may be as long as names can be; two containers may both have the process 7
    part = path.with_name(f'.{os.getpid()}-{token_hex(4)}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part, os.O_RDWR)  # or a power cut could leave the new name with no content
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
        if os.name == 'posix':  # elsewhere a folder can't be opened
            _sync(path.parent, os.O_RDONLY)
    except OSError as e:
        if e.errno and e.filename in (None, str(part)):  # `write` names none
            e.filename = str(path)
        raise
    finally:
        with suppress(NotADirectoryError):  # a file where the folder should be, which has been said
            part.unlink(missing_ok=True)


def remove_parts(folder: Path, seconds: float = 0.0) -> None:
    """Remove what killed processes left half-written in `folder` and below, at least `seconds` ago."""
    for part in folder.rglob('.*.part'):
        if seconds <= 0 or time() - part.stat().st_mtime >= seconds:
            part.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    """Wait until `path` is on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
