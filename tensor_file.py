"""Tensors in files: written whole, and read only where they are undamaged."""

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from atomic import replacing
from errors import UserError


def save_tensors(content: Any, file: Path, keep: Path | None = None) -> None:
    """Write `content`, tensors in dicts and lists, to `file`; where that fails, `file` is as it was.

    The file that was there before is kept as `keep`.

    Through memory: torch's own writer turns a full disk's OSError into a RuntimeError that names no file.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    with replacing(file, keep) as part:
        part.write_bytes(buffer.getbuffer())


def load_tensors(file: Path, way_out: str = '') -> Any:
    """What `save_tensors` wrote, on the CPU. Runs no code that the file may hold; UserError if it is damaged.

    `way_out` ends that message: what to do then.

    torch writes a zip archive with a CRC-32 for each tensor, but its own reader doesn't compare them.
    """
    content = BytesIO(file.read_bytes())
    try:
        with ZipFile(content) as archive:
            if damaged := archive.testzip():
                raise BadZipFile(f'{damaged} has another checksum')
        content.seek(0)
        return torch.load(content, map_location='cpu', weights_only=True)
    except Exception as e:  # zipfile and torch have many for a broken archive, such as struct.error and OSError
        reason = ' '.join(str(e).split()) or type(e).__name__
        raise UserError(f'{file} is damaged: {reason}' + way_out) from e
