"""From image files to probabilities, without the training images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path

import numpy as np
import torch
from fastai.vision.all import Categorize, DataLoaders, Datasets, Learner, TensorImage, TfmdLists, chunked, to_device
from torch import Tensor

from config.pixels import PIXELS
from config.recipes import Recipe
from data.augment import AlbumentationsTransform, OpenImage, get_transforms
from data.limits import BadImage
from data.seeded_loader import ImageDL
from data.sizes import Size, side_to_keep
from runtime.errors import UserError
from runtime.progress import progress


def unseen_dls(
    recipe: Recipe,
    classes: Sequence[str],
    size: Size,
    resized: bool,
    pixels: str = PIXELS[-1],
    device: torch.device | None = None,
) -> DataLoaders:
    """Make empty DataLoaders whose `test_dl(files)` treats images as validation in `get_dls` does.

    `size`, `resized` and `pixels` are attributes of the loaders used for training; `OpenImage` resizes other images. A
    file that can't be used raises `BadImage` when it is loaded. `device` defaults to fastai's default device.
    """
    _, valid = get_transforms(recipe, size, resized, pixels)
    side = side_to_keep(max(size), recipe.min_scale) if resized and pixels != 'direct' else None
    blank, splits = np.zeros((*size, 3), np.uint8), [[0], [0]]  # fastai infers types from one item
    images = TfmdLists([blank], [OpenImage(size, resized, True, side)], splits=splits)
    labels = TfmdLists([classes[0]], [Categorize(vocab=list(classes), sort=False)], splits=splits)
    options = {'bs': recipe.bs or 64, 'num_workers': 0, 'drop_last': False, 'device': device, 'dl_type': ImageDL}
    dls = Datasets(tls=[images, labels]).dataloaders(after_item=AlbumentationsTransform(valid, valid), **options)
    dls = dls.new_empty()
    dls.recipe, dls.size, dls.resized, dls.pixels = recipe, size, resized, pixels
    return dls


def refuse_to_train(dls: DataLoaders) -> None:
    """Raise UserError if `dls` has no training images, like the loaders of `unseen_dls`."""
    if not len(dls.train.dataset):
        raise UserError('this Learner has no training images: make one with get_learner(get_dls(...))')


def find_files(arguments: Iterable[str]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """List the files that paths, folders (without hidden files) and globs name, each once; also bad paths, and why."""
    files, bad = {}, []
    for argument in arguments:
        name = argument if os.path.lexists(argument) else os.path.expanduser(argument)
        matches = [name] if os.path.lexists(name) else sorted(glob(name, recursive=True))
        if not matches:
            bad.append((Path(name), 'there is no such file or folder, and no match for it as a glob'))
        for match in map(Path, matches):
            found, unreadable = _walk(match) if match.is_dir() else ([match], [])
            bad += unreadable or ([] if found else [(match, 'a folder without files')])
            files.update(dict.fromkeys(found))
    return list(files), bad


def _walk(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """List all files below `folder`, and unreadable folders. Links to folders aren't followed: they may form a loop."""
    files, errors = [], []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith('.')]
        files += [Path(parent, name) for name in names if not name.startswith('.')]
    return sorted(files), [(Path(e.filename), e.strerror) for e in errors]


def batches(learn: Learner, files: list[Path]) -> Iterator[tuple[list[Path], TensorImage, list[tuple[Path, str]]]]:
    """Read `files` in batches: yield the usable files, their images for the network, and bad files with reasons.

    The batch size is that of training, so batches fit into memory. One file is open at a time; only the network's input
    is kept: N x 3 x H x W, on its device. A batch without a usable file has no images.
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
    """Predict the class probabilities of a batch with the Learner and its callbacks: N x C, on the CPU."""
    with learn.no_bar():
        return learn.get_preds(dl=[(x,)])[0].float()
