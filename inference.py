"""From image files to probabilities, by a trained Learner."""

import os
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from fastai.learner import Learner
from fastai.torch_core import to_device
from fastai.vision.core import TensorImage
from fastcore.basics import chunked
from torch import Tensor

from bars import progress
from data.layout import visible
from data.limits import BadImage


def find_files(arguments: Iterable[str]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """What files, folders and globs name, each once, and those that name nothing with the reason.

    Of a folder all files in it and in the folders below, sorted, without hidden files and what systems and runs leave.
    """
    files, bad = {}, []
    for argument in arguments:
        name = argument if os.path.lexists(argument) else os.path.expanduser(argument)
        matches = [name] if os.path.lexists(name) else sorted(glob(name, recursive=True))
        if not matches:
            bad.append((Path(name), 'there is no such file or folder, nor does it match any as a glob'))
        for match in map(Path, matches):
            found, closed = _below(match) if match.is_dir() else ([match], [])
            bad += closed or ([] if found else [(match, 'a folder without files')])
            files.update(dict.fromkeys(found))
    return list(files), bad


def _below(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """All files in it, and folders that can't be read. Links to folders are not followed, as they may lead back."""
    files, closed, folders = [], [], [folder]
    while folders:
        at = folders.pop()
        try:
            entries = visible(at)
        except OSError as e:
            closed.append((at, e.strerror))
            continue
        files += [entry for entry in entries if not entry.is_dir()]
        folders += [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
    return sorted(files), closed


def batches(learn: Learner, files: list[Path]) -> Iterator[tuple[list[Path], TensorImage, list[tuple[Path, str]]]]:
    """Read `files` in batches: those that can be used, what the network takes of them, and the others with the reason.

    Batches are of the size trained with, so that they fit into memory. One file is open at a time, and of it no more is
    kept than the network takes: N x 3 x H x W, on its device. A batch without a usable file has no images.
    """
    for chunk in progress(list(chunked(files, learn.dls.valid.bs)), 'predicting'):
        dl, good, bad, items = learn.dls.test_dl(chunk), [], [], []
        dl.before_iter()
        for i, file in enumerate(chunk):
            try:
                items.append(dl.do_item(i))
                good.append(file)
            except BadImage as e:
                bad.append((file, str(e)))
        x = dl.after_batch(to_device(dl.do_batch(items), dl.device))[0] if items else TensorImage(())
        yield good, x, bad


def probabilities(learn: Learner, x: TensorImage) -> Tensor:
    """Of each class for each image of a batch, N x C, on the CPU, with whatever the Learner's callbacks do."""
    with learn.no_bar():
        return learn.get_preds(dl=[(x,)])[0].float()
