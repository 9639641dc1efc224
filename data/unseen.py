"""DataLoaders without data: a trained model's classes and transforms, for images that it hasn't seen."""

from collections.abc import Sequence

import numpy as np
import torch
from fastai.data.core import DataLoaders, Datasets, TfmdLists
from fastai.data.transforms import Categorize

from data.seeded import ImageDL
from data.sizes import Size
from data.transforms import AlbumentationsTransform, OpenImage, get_transforms
from errors import UserError
from recipes import Recipe


def unseen_dls(
    recipe: Recipe, classes: Sequence[str], size: Size, resized: bool, device: torch.device | None = None
) -> DataLoaders:
    """Empty DataLoaders, whose `test_dl(files)` does what those of `get_dls` do for validation.

    `size` and `resized` are those loaders'; images of another size become it as `OpenImage` says. A file that can't be
    used raises `BadImage` when its turn comes. `device` is fastai's default device, if not given.
    """
    _, valid = get_transforms(recipe, size, resized)
    blank, splits = np.zeros((*size, 3), np.uint8), [[0], [0]]  # fastai reads the types that there are off an item
    images = TfmdLists([blank], [OpenImage(size, resized, check=True)], splits=splits)
    labels = TfmdLists([classes[0]], [Categorize(vocab=list(classes), sort=False)], splits=splits)
    dls = Datasets(tls=[images, labels]).dataloaders(
        bs=recipe.bs,
        num_workers=0,
        after_item=AlbumentationsTransform(valid, valid),
        dl_type=ImageDL,
        drop_last=False,
        device=device,
    )
    dls = dls.new_empty()
    dls.recipe, dls.size, dls.resized = recipe, size, resized
    return dls


def refuse_to_train(dls: DataLoaders) -> None:
    """UserError where `dls` have no training images, as those of `unseen_dls`."""
    if not len(dls.train.dataset):
        raise UserError('this Learner has no images to train on: take one of get_learner(get_dls(...))')
