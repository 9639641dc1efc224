"""Read an untrusted .tgz.

`tarfile.TarFile` isn't safe in every Python release. Links escape its `data` filter (CVE-2025-4517), a negative size
makes it loop forever (CVE-2025-8194), and a header of 1 MiB keeps its regular expression busy for an hour
(CVE-2024-6232; 64 KiB took 15 s). A time that is not a number ends in a traceback. So this module reads the headers one
by one with `TarInfo.frombuf`, and ignores times, owners and permissions.
"""

import gzip
import tarfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from data.archive_member import MIB, Member, most_bytes, refuse_bomb

BLOCK = tarfile.BLOCKSIZE

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


class Gzip(gzip.GzipFile):
    """A gzip file that refuses a decompression bomb."""

    def __init__(self, archive: Path):
        super().__init__(archive)
        self.most = most_bytes(archive)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MIB or self.tell() > self.most:
            refuse_bomb()
        return super().read(size)

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes in chunks; raises EOFError if there are fewer."""
        while size:
            chunk = self.read(min(size, MIB))
            if not chunk:
                raise EOFError('it ends within a file')
            size -= len(chunk)
            yield chunk


def tar_members(archive: Path) -> Iterator[Member]:
    """Yield the members of the .tgz `archive`, each with its content."""
    with Gzip(archive) as f:
        for member in _headers(f):
            content, kind = f.chunks(member.size), None
            if not member.isdir() and member.type not in FILES:
                kind = KINDS.get(member.type, 'neither a file nor a folder')
            yield Member(member.name, member.isdir(), content, kind)
            if not member.isdir():
                deque(f.chunks(-member.size % BLOCK), 0)  # padding up to a whole block
        while f.read(MIB):  # to the end, where gzip verifies its checksum
            pass


def _headers(f: Gzip) -> Iterator[tarfile.TarInfo]:
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
