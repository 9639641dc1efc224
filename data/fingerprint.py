"""Fingerprints of the images and their split: they tell whether a later run has the same."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from fastai.data.core import DataLoaders

from runtime.errors import UserError
from runtime.files import fingerprint, sha256

FORM = 'sha256:'  # earlier runs have a digest without this prefix, of the names and whole contents


def fingerprint_files(
    root: Path, files: list[Path], contents: Mapping[Path, str], labels: Mapping[Path, str] | None = None
) -> str:
    """SHA-256 of the names (relative to `root`) and the SHA-256 `contents` of `files`, in the given order.

    `labels` are the classes, if the files' folders don't name them.
    """
    whole, folder = hashlib.sha256(), os.path.join(root, '')
    for file in files:
        name = str(file)
        # `relative_to` takes as long as reading a small file
        name = name[len(folder) :] if name.startswith(folder) else str(file.relative_to(root))
        whole.update(os.fsencode(name.replace(os.sep, '/')) + f'\0{contents[file]}\n'.encode())
        if labels:
            whole.update(os.fsencode(labels[file]) + b'\n')
    return FORM + whole.hexdigest()


def fingerprint_images(dls: DataLoaders, like: str = FORM) -> str:
    """Return the fingerprint of all images and their split, in the form of `like`, the fingerprint of another run.

    The current form is cached in `dls`, as it reads all files.
    """
    files = [file for dl in dls.loaders for file in dl.dataset.items]
    if not like.startswith(FORM):
        return fingerprint(dls.path, files)
    if 'fingerprint' not in vars(dls):
        dls.fingerprint = fingerprint_files(dls.path, files, {file: sha256(file) for file in files})
    return dls.fingerprint


def refuse_other_images(dls: DataLoaders, images: str, run: Path) -> None:
    """Raise UserError unless `dls` has the images that the run was started with, in the same split."""
    if fingerprint_images(dls, like=images) != images:
        raise UserError(
            f'{dls.path} does not have the images {run} was started with: restore them or pass their folder as --data'
        )
