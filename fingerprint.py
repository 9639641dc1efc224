"""What files are, whatever they are called and wherever they lie."""

import hashlib
import os
from pathlib import Path


def fingerprint(root: Path, files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files` below `root`, in their order."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        name = os.fsencode(file.relative_to(root).as_posix())  # which need not be UTF-8
        digest.update(name + f'\0{len(content)}\0'.encode() + content)
    return digest.hexdigest()
