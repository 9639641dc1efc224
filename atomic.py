"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; if all goes well it becomes `path`, else it goes and `path` is as it was.

    Makes the folder. (fastcore's `atomic_save` does much the same, but its files can be read by their owner only.)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{os.getpid()}.part')  # not from its name, which may be as long as names can be
    try:
        yield part
        with part.open('rb+') as f:
            os.fsync(f.fileno())  # or a power cut could leave the new name with no content
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
