"""Unpack an untrusted .tgz: write only files and folders, and only below one folder.

`tarfile.TarFile` isn't safe in every Python release. Links escape its `data` filter (CVE-2025-4517), a negative size
makes it loop forever (CVE-2025-8194), and a header of 1 MiB keeps its regular expression busy for an hour
(CVE-2024-6232; 64 KiB took 15 s). A time that is not a number ends in a traceback. So this module reads the headers one
by one with `TarInfo.frombuf`, and ignores times, owners and permissions.
"""

import errno
import gzip
import os
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from data.layout import WAYS_OUT
from runtime.errors import UserError, printable

MAX_RATIO = 100  # of unpacked size to archive size

MAX_ENTRIES = 300_000  # files and folders: Tiny ImageNet has 120,000. Writing the maximum, all empty, takes about 45 s
FREE_ENTRIES = 20_000  # allowed in any archive
BYTES_EACH = 100  # of the archive per further entry: a 16x16 digit takes 250, an empty file 10
MAX_DEPTH = 32  # nested folders
MIB, BLOCK = 2**20, tarfile.BLOCKSIZE
FULL = errno.ENOSPC, errno.EDQUOT

FILES = tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE
KINDS = {
    tarfile.SYMTYPE: 'a symbolic link',
    tarfile.LNKTYPE: 'a hard link',
    tarfile.CHRTYPE: 'a device',
    tarfile.BLKTYPE: 'a device',
    tarfile.FIFOTYPE: 'a pipe',
    tarfile.GNUTYPE_SPARSE: 'a sparse file',
}
PAX = tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE
EXTENDED = *PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
SPARSE = {b'GNU.sparse.major', b'GNU.sparse.map', b'GNU.sparse.size'}  # one key for each of the three versions
KEYS = {b'path', b'size', *SPARSE}  # the keys used of a pax header


class Refused(ValueError):
    """The archive is unsafe; the message is the reason."""


class Gzip(gzip.GzipFile):
    """A gzip file that refuses a decompression bomb: images compress little, zeros to a thousandth."""

    def __init__(self, archive: Path):
        super().__init__(archive)
        self.most = MAX_RATIO * archive.stat().st_size + 128 * MIB

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MIB or self.tell() > self.most:
            raise Refused(f'it unpacks to more than {MAX_RATIO} times its size: a decompression bomb?')
        return super().read(size)

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes in chunks; raises EOFError if there are fewer."""
        while size:
            chunk = self.read(min(size, MIB))
            if not chunk:
                raise EOFError('it ends within a file')
            size -= len(chunk)
            yield chunk


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of the .tgz `archive` to the empty `folder`, after checking the whole archive.

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
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as e:
        if isinstance(e, OSError) and e.errno in FULL:
            raise
        reason = printable((isinstance(e, OSError) and e.strerror) or e)
        raise UserError(f"{printable(archive)} can't be unpacked as .tgz ({reason}): {WAYS_OUT}") from e


def _entries(archive: Path, folder: Path) -> Iterator[tuple[str, Iterator[bytes] | None]]:
    """Yield each member's path in `folder` and its content (None for a folder), to be read before the next."""
    folder = os.path.abspath(folder)
    folders, most = {folder}, min(FREE_ENTRIES + archive.stat().st_size // BYTES_EACH, MAX_ENTRIES)
    with Gzip(archive) as f:
        for n, member in enumerate(_members(f)):
            path = _inside(folder, member)
            parent = path if member.isdir() else os.path.dirname(path)
            while parent not in folders:
                folders.add(parent)
                parent = os.path.dirname(parent)
            if n + len(folders) > most:
                raise Refused(f'it has more than {most:,} files and folders: if you trust it, unpack it yourself')
            if member.isdir():
                yield path, None
            else:
                yield path, f.chunks(member.size)
                deque(f.chunks(-member.size % BLOCK), 0)  # padding up to a whole block
        while f.read(MIB):  # to the end, where gzip verifies its checksum
            pass


def _members(f: Gzip) -> Iterator[tarfile.TarInfo]:
    """Yield the members of the tar file `f`, positioned at their content; extended headers are applied to them."""
    extended = {}
    while (block := f.read(BLOCK)).strip(b'\0'):
        member = tarfile.TarInfo.frombuf(block, 'utf-8', 'surrogateescape')
        if member.type in EXTENDED:
            content = f.read(member.size + -member.size % BLOCK)[: member.size]
            if len(content) < member.size:
                raise EOFError('it ends within a header')
            if member.type in PAX:
                extended |= {key: value for key, value in _records(content) if key in KEYS}
            elif member.type == tarfile.GNUTYPE_LONGNAME:
                extended[b'path'] = content.rstrip(b'\0')
            continue
        if name := extended.get(b'path'):
            member.name = name.decode(errors='surrogateescape')
        member.size = int(extended.get(b'size', member.size))
        if SPARSE & extended.keys():
            member.type = tarfile.GNUTYPE_SPARSE
        if member.size < 0:
            raise tarfile.ReadError('a file with a negative size')
        yield member
        extended = {}
    if extended or not f.tell():
        raise EOFError('it ends before a file')


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a pax header; a record is its length, a space, key=value and a line feed."""
    start = 0
    while start < len(content):
        space = content.find(b' ', start, start + 20)
        end = start + int(content[start:space]) if space > 0 else start
        if end <= max(start, space):
            raise tarfile.ReadError('a header without its length')
        key, _, value = content[space + 1 : end - 1].partition(b'=')
        yield key, value
        start = end


def _inside(folder: str, member: tarfile.TarInfo) -> str:
    """Return the member's path in `folder`, dropping leading slashes as tar does; raises `Refused` if unsafe."""
    name = f"'{member.name[:200]}'"
    if not member.isdir() and member.type not in FILES:
        kind = KINDS.get(member.type, 'neither a file nor a folder')
        raise Refused(f'{name} is {kind}, which is not unpacked: pack the files themselves')
    path = os.path.abspath(os.path.join(folder, member.name.lstrip('/')))
    inside = path.startswith(os.path.join(folder, '')) or (path == folder and member.isdir())
    if not inside or '\0' in path:
        raise Refused(f'{name} would be written outside of its folder')
    if path.count(os.sep) - folder.count(os.sep) > MAX_DEPTH:
        raise Refused(f'{name} lies in more than {MAX_DEPTH} nested folders')
    return path
