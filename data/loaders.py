"""From a folder of images to fastai's DataLoaders: train, valid and test."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import parent_label
from fastai.torch_core import default_device, num_distrib
from fastcore.basics import defaults

from data.balance import count_classes
from data.batched import Unbatchable
from data.duplicates import count_duplicates, find_duplicates
from data.pixels import Pixels, decoded
from data.seeded import BatchedDL, ImageDL
from data.sizes import USUAL, told
from data.sources import Images, find_images
from data.split import split_off
from data.transforms import AlbumentationsTransform, BatchedTransform, OpenImage, get_transforms
from errors import UserError
from fingerprint import fingerprints
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
    size: int | None = None,
) -> DataLoaders:
    """DataLoaders of `path` (whatever `find_images` takes): `dls.train`, `dls.valid`, and `dls[2]`, the test set.

    `recipe` (default: `plateau`, fitted to what `path` names) is kept as `dls.recipe`, and gives `bs` and `valid` where
    they aren't given. `fraction` of the training images is kept. The validation set is the one that comes with `path`,
    else `valid` of those images, both parts stratified by class; with `valid='test'` it's the test set too, with 0
    there is none. Batches are N x 3 x H x W, normalised, and class indices; H and W, `dls.size`, are `size` or what
    `data.sizes` says, and `dls.resized` is whether the images have another. `dls.class_counts` has the training images
    of each class, and `dls.left_out` the files that `skip_bad` leaves out, each with the reason. `dls.duplicates` lists
    the images that are there more than once (`find_duplicates` says how), and a printed line counts them.
    `dls.fingerprint` is that of all files, in the loaders' order. Raises UserError when the images can't be used or are
    too few.
    """
    recipe = recipe or recipe_for(path)
    bs = bs or recipe.bs
    images = find_images(path, skip_bad, size or (USUAL if recipe.pretrained else None))
    subsets, on_gpu = _subsets(images, recipe, valid, fraction, seed), default_device().type == 'cuda'
    train, held, test = subsets
    if bs > len(train):
        raise UserError(f'bs {bs} is more than the {len(train)} training images: choose a smaller bs')
    if bs % max(num_distrib(), 1):
        raise UserError(f"bs {bs} can't be shared evenly by {num_distrib()} processes: choose a multiple of that")

    composes, dl_kwargs = get_transforms(recipe, images.size, images.resized), None
    batch_tfms, item_tfms = None, AlbumentationsTransform(*composes)
    if images.resized:
        print(f'images are cropped and resized to {told(images.size)}, each by itself (--size chooses another size)')
    else:
        try:
            batch_tfms, item_tfms = BatchedTransform(*composes, images.size), None
        except Unbatchable as e:
            print(f'augmenting image by image: {e}')
        else:
            dl_kwargs = _all_decoded(images, subsets)
    if num_workers is None:
        # without any work for each image none are needed; on the CPU the model needs every core
        cpus = defaults.cpus // int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # the launcher's processes share them
        num_workers = min(max(cpus, 1), 8) if on_gpu and not dl_kwargs else 0
    flips = {'alternating_flip': recipe.alternating_flip} if batch_tfms else {}
    starts = np.cumsum([0, *map(len, subsets)])
    block = DataBlock(
        blocks=(
            TransformBlock(type_tfms=OpenImage(images.size, images.resized)),
            CategoryBlock(vocab=images.classes, sort=False),
        ),
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
        **flips,
    )
    dls.recipe, dls.size, dls.resized, dls.left_out = recipe, images.size, images.resized, images.bad
    dls.class_counts = count_classes(train, images.classes)
    dls.fingerprint, contents = fingerprints(images.path, [*train, *held, *test])
    dls.duplicates = find_duplicates(images.path, {'train': train, 'valid': held, 'test': test}, contents)
    if said := count_duplicates(dls.duplicates):
        print(said)
    return dls


def _subsets(
    images: Images, recipe: Recipe, valid: float | str | None, fraction: float, seed: int
) -> tuple[list[Path], list[Path], list[Path]]:
    """The images to train, to validate and to test on."""
    train, test = images.train, images.test
    if images.test_drawn:
        print(
            f'there is no test/: {len(test):,} images, the same in every run, are drawn from the {len(train + test):,}'
        )
    if images.valid and valid is not None:
        raise UserError(
            f'--valid {valid}: {images.path} has a validation set, {len(images.valid):,} images; leave it out'
        )
    if fraction < 1:
        left_out = len(train) - round(fraction * len(train))
        train, _ = split_off(train, left_out, seed, f'fraction {fraction}', of_every_class=False)
    if images.valid:
        return train, images.valid, test
    valid = recipe.valid if valid is None else valid
    if valid == 'test':
        return train, test, test
    if valid:
        return *split_off(train, round(valid * len(train)), seed, f'valid {valid}'), test
    if recipe.schedule == 'plateau':
        raise UserError('valid 0: this recipe cuts the learning rate by the validation loss, so hold some images out')
    return train, [], test


def _all_decoded(images: Images, subsets: Sequence[list[Path]]) -> list[dict] | None:
    """For each of `subsets` the pixels and labels of its files; None where they're to be decoded in each epoch."""
    files = images.train + images.valid + images.test
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
