"""From a folder of images to fastai's DataLoaders: train, valid and test."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import parent_label
from fastai.torch_core import default_device
from fastai.vision.core import PILImage
from fastcore.basics import defaults
from PIL import Image
from sklearn.model_selection import train_test_split

from data.batched import Unbatchable
from data.files import BadImage, open_rgb
from data.pixels import Pixels, decoded
from data.seeded import BatchedDL, ImageDL
from data.sources import Images, find_images
from data.transforms import AlbumentationsTransform, BatchedTransform, get_transforms
from errors import UserError
from recipes import Recipe, recipe_for


def get_dls(
    path: str | Path,
    recipe: Recipe | None = None,
    bs: int | None = None,
    valid: float | str | None = None,
    fraction: float = 1.0,
    seed: int = 42,
    num_workers: int | None = None,
    skip_bad: bool = False,
) -> DataLoaders:
    """DataLoaders of `path` (whatever `find_images` takes): `dls.train`, `dls.valid`, and `dls[2]`, the test set.

    `recipe` (default: `plateau`, fitted to what `path` names) is kept as `dls.recipe`, and gives `bs` and `valid` where
    they aren't given.
    `fraction` of the training images is kept, and `valid` of those is held out, both stratified by class; with
    `valid='test'` the test set is the validation set too, with 0 there is none. Batches are N x 3 x H x W, normalised,
    and class indices.
    Files that `skip_bad` leaves out are in `dls.left_out`, each with the reason. Raises UserError when the images can't
    be used or are too few.
    """
    recipe = recipe or recipe_for(path)
    bs, valid = bs or recipe.bs, recipe.valid if valid is None else valid
    if not valid and recipe.schedule == 'plateau':
        raise UserError('valid 0: this recipe cuts the learning rate by the validation loss, so hold some images out')
    images = find_images(path, skip_bad)
    train, test = list(images.train), list(images.test)
    if fraction < 1:
        train, _ = _stratified(train, len(train) - round(fraction * len(train)), seed, f'fraction {fraction}')
    if valid == 'test':
        held = test
    elif valid:
        train, held = _stratified(train, round(valid * len(train)), seed, f'valid {valid}')
    else:
        held = []
    if bs > len(train):
        raise UserError(f'bs {bs} is more than the {len(train)} training images: choose a smaller bs')

    subsets, on_gpu = (train, held, test), default_device().type == 'cuda'
    composes, dl_kwargs = get_transforms(recipe, images.size), None
    try:
        batch_tfms, item_tfms = BatchedTransform(*composes, images.size), None
    except Unbatchable as e:
        print(f'augmenting image by image: {e}')
        batch_tfms, item_tfms = None, AlbumentationsTransform(*composes)
    else:
        dl_kwargs = _all_decoded(images, subsets)
    if num_workers is None:
        # without any work for each image none are needed; on the CPU the model needs every core
        num_workers = min(defaults.cpus, 8) if on_gpu and not dl_kwargs else 0
    starts = np.cumsum([0, *map(len, subsets)])
    block = DataBlock(
        blocks=(TransformBlock(type_tfms=_image), CategoryBlock(vocab=images.classes)),
        get_y=parent_label,
        splitter=lambda items: [range(*ends) for ends in pairwise(starts)],
        item_tfms=item_tfms,
        batch_tfms=batch_tfms,
        dl_type=BatchedDL if batch_tfms else ImageDL,
    )
    dls = block.dataloaders(
        [*train, *held, *test],
        path=images.path,
        bs=bs,
        seed=seed,
        num_workers=num_workers,
        pin_memory=on_gpu,
        dl_kwargs=dl_kwargs,
    )
    dls.recipe, dls.left_out = recipe, images.bad
    return dls


def _all_decoded(images: Images, subsets: Sequence[list[Path]]) -> list[dict] | None:
    """For each of `subsets` the pixels and labels of its files; None where they're to be decoded in each epoch."""
    files = images.train + images.test
    file = decoded(images.path, files, images.size)
    if file is None:
        return None
    rows, label = {f: i for i, f in enumerate(files)}, {name: i for i, name in enumerate(images.classes)}
    return [
        {
            'pixels': Pixels(file, np.array([rows[f] for f in subset])),
            'labels': torch.tensor([label[parent_label(f)] for f in subset]),
        }
        for subset in subsets
    ]


def _image(item: str | Path | bytes | np.ndarray | Image.Image) -> PILImage:
    """A file as it was checked, or what `learn.predict` takes besides (fastai reads the types off the annotation)."""
    if not isinstance(item, str | Path):
        return PILImage.create(PILImage.create(item).convert('RGB'))
    try:
        return open_rgb(item)
    except BadImage as e:  # since it was checked
        raise UserError(f'{item} is no longer what it was: {e}') from e


def _stratified(files: list[Path], n_out: int, seed: int, option: str) -> tuple[list[Path], list[Path]]:
    """Split `n_out` files off, each class in proportion; both parts keep the order of `files`."""
    labels = [parent_label(f) for f in files]
    try:
        kept, out = train_test_split(range(len(files)), test_size=n_out, random_state=seed, stratify=labels)
    except ValueError as e:
        raise UserError(f'{option} of {len(files)} images leaves a class without any: {e}') from e
    if missing := {*labels} - {labels[i] for i in kept}:
        raise UserError(f'{option} of {len(files)} images leaves {min(missing)} without any: choose more')
    return [files[i] for i in sorted(kept)], [files[i] for i in sorted(out)]
