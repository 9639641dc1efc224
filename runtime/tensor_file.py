"""Save tensors atomically, and check for damage when loading them."""

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from runtime.errors import UserError
from runtime.files import replacing


def save_tensors(content: Any, file: Path, keep: Path | None = None) -> None:
    """Write `content`, tensors in dicts and lists, to `file` atomically; the previous file is kept as `keep`.

    Serialises in memory first: torch's own writer turns a full disk's OSError into a RuntimeError that names no file.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    with replacing(file, keep) as part:
        part.write_bytes(buffer.getbuffer())


def load_tensors(file: Path, way_out: str = '') -> Any:
    """Load a file of `save_tensors` to the CPU; no code in it runs. UserError, ending in `way_out`, if it is damaged.

    torch writes a zip archive with a CRC-32 for each tensor, but its reader doesn't check them.
    """
    content = BytesIO(file.read_bytes())
    try:
        with ZipFile(content) as archive:
            if damaged := archive.testzip():
                raise BadZipFile(f'checksum mismatch in {damaged}')
        content.seek(0)
        return torch.load(content, map_location='cpu', weights_only=True)
    except Exception as e:  # zipfile and torch raise many types for a broken archive, e.g. struct.error, OSError
        reason = ' '.join(str(e).split()) or type(e).__name__
        raise UserError(f'{file} is damaged: {reason}' + way_out) from e
