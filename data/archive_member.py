"""A file or folder in an untrusted archive, and what is refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
MAX_RATIO = 100  # of unpacked size to archive size


class Refused(ValueError):
    """The archive is unsafe; the message is the reason."""


@dataclass(frozen=True)
class Member:
    """A member of an archive; `content` must be read before the next member."""

    name: str
    is_folder: bool
    content: Iterable[bytes]
    kind: str | None = None  # the type in words, if it is neither a file nor a folder


def most_bytes(archive: Path) -> int:
    """The bytes that `archive` may unpack to: images compress little, zeros to a thousandth."""
    return MAX_RATIO * archive.stat().st_size + 128 * MIB


def refuse_bomb() -> None:
    """Raise `Refused` for an archive that unpacks to more than `most_bytes`."""
    raise Refused(f'it unpacks to more than {MAX_RATIO} times its size: a decompression bomb?')
