"""What files are, whatever they are called and wherever they lie."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def fingerprint(root: Path, files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files` below `root`, in their order."""
    return fingerprints(root, files)[0]


def fingerprints(root: Path, files: list[Path]) -> tuple[str, dict[Path, bytes]]:
    """The `fingerprint` of `files`, and the SHA-256 of the content of each: they are read once for both."""
    whole, contents = hashlib.sha256(), {}
    for file in files:
        content = file.read_bytes()
        name = os.fsencode(file.relative_to(root).as_posix())  # which need not be UTF-8
        whole.update(name + f'\0{len(content)}\0'.encode() + content)
        contents[file] = hashlib.sha256(content).digest()
    return whole.hexdigest(), contents


def fingerprint_contents(files: Iterable[Path]) -> str:
    """SHA-256 over the SHA-256 of each content, sorted: the same for the same images by any name in any order."""
    digests = (hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(b''.join(sorted(digests))).hexdigest()
