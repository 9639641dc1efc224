"""Make fastai's DataLoaders (train, valid, test) from a folder of images."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import albumentations as A
import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders
from fastai.torch_core import default_device, num_distrib
from fastcore.basics import defaults

from config.options import Config
from config.pixels import PIXELS, refuse_unknown
from config.recipes import Recipe, recipe_for
from data.augment import AlbumentationsTransform, BatchedTransform, OpenImage, get_transforms, split_transforms
from data.batched.compose import Unbatchable
from data.batched_loader import BatchedDL
from data.duplicates import count_duplicates, find_duplicates
from data.fingerprint import fingerprint_files
from data.listing import Labels
from data.own_augment import as_text, load_augment, read_augment
from data.photo_loader import PhotoDL
from data.seeded_loader import ImageDL
from data.sizes import USUAL, format_size, side_to_keep
from data.sources import find_images
from data.split import split_off
from data.verify import Images, count_classes
from runtime.errors import UserError, printable


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
    augment: A.Compose | str | None = None,
    pixels: str = PIXELS[-1],
) -> DataLoaders:
    """Make DataLoaders of `path` (any value that `find_images` takes): `dls.train`, `dls.valid`, and `dls[2]` for test.

    `recipe` (default: `plateau`, adapted to `path`) becomes `dls.recipe` and sets the defaults of `bs` and `valid`.
    `fraction` is the share of the training images to keep. The validation set comes with `path`; otherwise it is a
    share `valid` of the kept images, stratified by class. `valid='test'` validates on the test set, `valid=0` on none.
    Batches are normalised images, N x 3 x H x W, and class indices. `dls.size` is (H, W): `size` or the size that
    `data.sizes` chooses; `dls.resized` tells whether images are resized to it, in the way `pixels`, one of
    `config.pixels.PIXELS`. `dls.class_counts` counts the training images of each class. `dls.unlabelled` lists images
    without labels, to predict. `dls.left_out` lists the files that `skip_bad` left out, with reasons. `dls.duplicates`
    lists the duplicate images (see `find_duplicates`); a printed line counts them. `dls.fingerprint` is the fingerprint
    of all files, in the loaders' order. `dls.seconds` is how long this took.

    `augment` replaces the recipe's crop, flip and hole in training: 'light', 'strong', a file that `A.save` wrote, or
    an `A.Compose` without Normalize and ToTensorV2, which are added. Raises UserError if it can't be used, and if the
    images can't be used or are too few.
    """
    start, recipe = perf_counter(), recipe or recipe_for(path)
    refuse_unknown(pixels)
    if augment is not None:
        saved = as_text(augment) if isinstance(augment, A.Compose) else read_augment(augment)
        recipe = replace(recipe, augment=saved)
    own = augment if isinstance(augment, A.Compose) else load_augment(recipe.augment)
    wanted = size or recipe.side or (USUAL if recipe.pretrained else None)
    side = None if pixels == 'direct' else side_to_keep(wanted or USUAL, recipe.min_scale)
    images = find_images(path, skip_bad, wanted, side)
    subsets, on_gpu = _subsets(images, recipe, valid, fraction, seed), default_device().type == 'cuda'
    train, held, test = subsets
    bs = bs or recipe.bs or _fitting_bs(len(train))
    if bs > len(train):
        raise UserError(f'bs {bs} is more than the {len(train)} training images: choose a smaller bs')
    if bs % max(num_distrib(), 1):
        raise UserError(f"bs {bs} can't be shared evenly by {num_distrib()} processes: choose a multiple of that")

    composes, dl_kwargs = get_transforms(recipe, images.size, images.resized, pixels, own), None
    batch_tfms, item_tfms = None, AlbumentationsTransform(*composes)
    if images.resized:
        if side:
            each, batches = zip(*map(split_transforms, composes), strict=True)
            batch_tfms, item_tfms = BatchedTransform(*batches, images.size), AlbumentationsTransform(*each)
            dl_kwargs = _all_pixels(images, subsets, side)
        print(f'images are cropped and resized to {format_size(images.size)}, one by one (--size chooses another size)')
    else:
        try:
            batch_tfms, item_tfms = BatchedTransform(*composes, images.size), None
        except Unbatchable as e:
            print(f'augmenting image by image: {e}')
        else:
            dl_kwargs = _all_pixels(images, subsets, side)
    if num_workers is None:
        # images that stay as they are need no workers once decoded; on the CPU the model needs every core
        cpus = defaults.cpus // int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # shared by the launcher's processes
        num_workers = min(max(cpus, 1), 8) if on_gpu and (images.resized or not dl_kwargs) else 0
    flips = {'alternating_flip': recipe.alternating_flip} if batch_tfms and not images.resized and not own else {}
    starts = np.cumsum([0, *map(len, subsets)])
    block = DataBlock(
        blocks=(
            TransformBlock(type_tfms=OpenImage(images.size, images.resized, side=side if images.resized else None)),
            CategoryBlock(vocab=images.classes, sort=False),
        ),
        get_y=images.label,
        splitter=lambda items: [range(*ends) for ends in pairwise(starts)],
        item_tfms=item_tfms,
        batch_tfms=batch_tfms,
        dl_type=(PhotoDL if images.resized else BatchedDL) if batch_tfms else ImageDL,
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
    dls.pixels = pixels
    dls.class_counts = count_classes(map(images.label, train), images.classes)
    dls.unlabelled = images.unlabelled
    contents = images.checked.contents
    labels = images.label.by_file if isinstance(images.label, Labels) else None
    dls.fingerprint = fingerprint_files(images.path, [*train, *held, *test], contents, labels)
    splits = {'train': train, 'valid': held, 'test': test}
    dls.duplicates = find_duplicates(images.path, splits, contents, images.label)
    if line := count_duplicates(dls.duplicates):
        print(line)
    dls.seconds = perf_counter() - start
    return dls


def load_dls(config: Config) -> DataLoaders:
    """Call `get_dls` with the options of a run."""
    names = 'valid', 'fraction', 'seed', 'skip_bad', 'size', 'pixels'
    options = {name: getattr(config, name) for name in names}
    return get_dls(config.data, config.recipe, num_workers=config.workers, **options)


def _subsets(
    images: Images, recipe: Recipe, valid: float | str | None, fraction: float, seed: int
) -> tuple[list[Path], list[Path], list[Path]]:
    """Split `images` for training, validation and test."""
    train, test = images.train, images.test
    for note in images.notes:
        print(note)
    if images.valid and valid is not None:
        raise UserError(
            f'--valid {valid}: {images.path} has a validation set, {len(images.valid):,} images; omit --valid'
        )
    if fraction < 1:
        left_out = len(train) - round(fraction * len(train))
        train, _ = split_off(train, images.label, left_out, seed, f'fraction {fraction}', of_every_class=False)
    if images.valid:
        return train, images.valid, test
    least = len(images.classes) if valid is None else 0
    valid = recipe.valid if valid is None else valid
    if valid == 'test':
        return train, test, test
    if valid:
        return *split_off(train, images.label, max(least, round(valid * len(train))), seed, f'valid {valid}'), test
    if recipe.schedule == 'plateau':
        raise UserError('valid 0: this recipe lowers the learning rate by the validation loss, so hold some images out')
    if recipe.early_stop:
        raise UserError('valid 0: --early-stop goes by the validation loss, so hold some images out')
    return train, [], test


def _fitting_bs(n: int) -> int:
    """A batch size for `n` training images: a twentieth of them, 8 to 128, divisible by the number of processes."""
    processes = max(num_distrib(), 1)
    return min(n, max(8, min(n // 20, 128))) // processes * processes


def _all_pixels(images: Images, subsets: Sequence[list[Path]], side: int | None) -> list[dict] | None:
    """Return the pixels and labels of each subset; None if images that aren't resized must be decoded in each epoch."""
    if problem := images.checked.problem:
        print(printable(f'images are decoded in each epoch: {problem}'))
    if images.resized:
        read = partial(images.checked.photographs, side=side)
    elif images.checked.problem:
        return None
    else:
        read = partial(images.checked.pixels, size=images.size)
    label = {name: i for i, name in enumerate(images.classes)}
    return [
        {'pixels': read(subset), 'labels': torch.tensor([label[images.label(file)] for file in subset])}
        for subset in subsets
    ]
