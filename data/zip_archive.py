"""Read an untrusted .zip."""

import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from data.archive_member import MIB, Member, Refused, most_bytes, refuse_bomb

MAX_DIRECTORY = 32 * MIB  # bytes of the list of members, which `ZipFile` reads at once: 300,000 take about that
KINDS = {stat.S_IFLNK: 'a symbolic link', stat.S_IFIFO: 'a pipe', stat.S_IFSOCK: 'a socket'}
KINDS |= dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), 'a device')


class Zip(FileIO):
    """A file that refuses too large reads."""

    def __init__(self, archive: Path):
        super().__init__(archive)
        self.length = archive.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, or all; `Refused` if that is more than the largest list of members."""
        left = self.length - self.tell()
        if (left if size is None or size < 0 else min(size, left)) > MAX_DIRECTORY:
            raise Refused('its list of files is too long: if you trust it, unpack it yourself')
        return super().read(size)


def zip_members(archive: Path) -> Iterator[Member]:
    """Yield the members of the .zip `archive`, each with its content."""
    left = most_bytes(archive)

    def content(info: ZipInfo) -> Iterator[bytes]:
        nonlocal left
        missing = info.file_size
        with opened.open(info) as f:
            while chunk := f.read(MIB):
                left, missing = left - len(chunk), missing - len(chunk)
                if left < 0:
                    refuse_bomb()
                yield chunk
        if missing:
            raise EOFError('it ends within a file')

    with Zip(archive) as file, ZipFile(file) as opened:
        for info in opened.infolist():
            name = f"'{info.filename[:200]}'"
            if info.flag_bits & 1:
                raise Refused(f'{name} is encrypted')
            if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # other methods take much memory
                raise Refused(f'{name} is compressed by another method than deflate')
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)  # archives from Windows have 0
            kind = None if plain else KINDS.get(kind, 'neither a file nor a folder')
            yield Member(info.filename, info.is_dir(), content(info), kind)
