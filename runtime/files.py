"""Atomic writes, and fingerprints of files."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import time


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to. On success it replaces `path`; on an error it is removed, `path` unchanged.

    The previous file is kept as `keep`. Creates the folder. An OSError names `path`. (fastcore's `atomic_save` is
    similar, but only their owner can read its files.)
    """
    # not derived from `path`'s name, which may have the maximal length; two containers may both have a process 7
    part = path.with_name(f'.{os.getpid()}-{token_hex(4)}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part, os.O_RDWR)  # else a power cut could leave the new name without content
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
        if os.name == 'posix':  # other systems can't open a folder
            _sync(path.parent, os.O_RDONLY)
    except OSError as e:
        if e.errno and e.filename in (None, str(part)):  # `write` names no file
            e.filename = str(path)
        raise
    finally:
        with suppress(NotADirectoryError):  # a file is in the folder's place: already reported
            part.unlink(missing_ok=True)


def remove_parts(folder: Path, seconds: float = 0.0) -> None:
    """Remove half-written files of killed processes in `folder` and below that are at least `seconds` old."""
    for part in folder.rglob('.*.part'):
        if part.is_file() and (seconds <= 0 or time() - part.stat().st_mtime >= seconds):
            part.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(file: Path) -> str | None:
    """SHA-256 of a file's content; None if it is no regular file or can't be read."""
    digest = hashlib.sha256()
    try:
        for block in _blocks(file):
            digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def fingerprint(root: Path, files: list[Path]) -> str:
    """SHA-256 of the names (relative to `root`) and contents of `files`, in the given order."""
    whole, folder = hashlib.sha256(), os.path.join(root, '')
    for file in files:
        content, name = b''.join(_blocks(file)), str(file)
        # `relative_to` takes as long as reading a small file
        name = name[len(folder) :] if name.startswith(folder) else str(file.relative_to(root))
        whole.update(os.fsencode(name.replace(os.sep, '/')) + f'\0{len(content)}\0'.encode() + content)
    return whole.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    """Read `file`; OSError if it isn't a regular file. `open` and `read_bytes` are half as fast for small files."""
    descriptor = os.open(file, os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_NONBLOCK', 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # without O_NONBLOCK, opening a pipe would wait
            raise OSError(f'{file} is not a regular file')
        while block := os.read(descriptor, 2**16):
            yield block
    finally:
        os.close(descriptor)


def fingerprint_contents(files: Iterable[Path]) -> str:
    """SHA-256 of the sorted SHA-256 of each file's content: it doesn't depend on names or order."""
    digests = (hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(b''.join(sorted(digests))).hexdigest()


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path` atomically."""
    with replacing(path) as part:
        text = json.dumps(content, indent=2, ensure_ascii=False) + '\n'
        part.write_text(text, encoding='utf-8', errors='backslashreplace')  # a JSON escape for a non-UTF-8 name
