"""Unpack an untrusted .tgz or .zip: write only files and folders, and only below one folder."""

import errno
import os
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from zipfile import BadZipFile

from data.archive_member import Member, Refused
from data.layout import WAYS_OUT
from data.tar_archive import tar_members
from data.zip_archive import zip_members
from runtime.errors import UserError, printable

MAX_ENTRIES = 300_000  # files and folders: Tiny ImageNet has 120,000. Writing the maximum, all empty, takes about 45 s
FREE_ENTRIES = 20_000  # allowed in any archive
BYTES_EACH = 100  # of the archive per further entry: a 16x16 digit takes 250, an empty file 10
MAX_DEPTH = 32  # nested folders
FULL = errno.ENOSPC, errno.EDQUOT
DAMAGED = (  # raised for damaged archives by `tarfile`, `gzip` and `zipfile`
    tarfile.TarError, BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, NotImplementedError,
    RuntimeError, OverflowError, IndexError,
)  # fmt: skip


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of the .tgz or .zip `archive` to the empty `folder`, after checking the whole archive.

    Raises UserError if it is damaged, unpacks to over 100 times its size, has too many members, or one that is no
    file or folder or lies outside `folder`, or can't be written. Raises OSError if the disk is full.
    """
    try:
        for _, content in _entries(archive, folder):
            deque(content or (), 0)
        for path, content in _entries(archive, folder):
            os.makedirs(path if content is None else os.path.dirname(path), exist_ok=True)
            if content is not None:
                with open(path, 'wb') as f:
                    f.writelines(content)
    except DAMAGED as e:
        if isinstance(e, OSError) and e.errno in FULL:
            raise
        reason = printable((isinstance(e, OSError) and e.strerror) or e)
        kind = '.zip' if _is_zip(archive) else '.tgz'
        raise UserError(f"{printable(archive)} can't be unpacked as {kind} ({reason}): {WAYS_OUT}") from e


def _entries(archive: Path, folder: Path) -> Iterator[tuple[str, Iterable[bytes] | None]]:
    """Yield each member's path in `folder` and its content (None for a folder), to be read before the next."""
    folder = os.path.abspath(folder)
    folders, most = {folder}, min(FREE_ENTRIES + archive.stat().st_size // BYTES_EACH, MAX_ENTRIES)
    for n, member in enumerate(zip_members(archive) if _is_zip(archive) else tar_members(archive)):
        path = _inside(folder, member)
        parent = path if member.is_folder else os.path.dirname(path)
        while parent not in folders:
            folders.add(parent)
            parent = os.path.dirname(parent)
        if n + len(folders) > most:
            raise Refused(f'it has more than {most:,} files and folders: if you trust it, unpack it yourself')
        yield path, None if member.is_folder else member.content


def _is_zip(archive: Path) -> bool:
    with archive.open('rb') as f:
        return f.read(2) == b'PK'


def _inside(folder: str, member: Member) -> str:
    """Return the member's path in `folder`, dropping leading slashes as tar does; raises `Refused` if unsafe."""
    name = f"'{member.name[:200]}'"
    if member.kind:
        raise Refused(f'{name} is {member.kind}, which is not unpacked: pack the files themselves')
    path = os.path.abspath(os.path.join(folder, member.name.lstrip('/')))
    inside = path.startswith(os.path.join(folder, '')) or (path == folder and member.is_folder)
    if not inside or '\0' in path:
        raise Refused(f'{name} would be written outside of its folder')
    if path.count(os.sep) - folder.count(os.sep) > MAX_DEPTH:
        raise Refused(f'{name} lies in more than {MAX_DEPTH} nested folders')
    return path
