"""Albumentations as one fastai transform."""

import random
import warnings
from collections.abc import Sequence

import albumentations as A
import cv2
import numpy as np
import torch
from fastai.vision.augment import RandTransform
from fastai.vision.core import PILImage, TensorImage
from torch import Tensor

from data.batched import BatchedCompose
from recipes import Recipe


def get_transforms(recipe: Recipe, size: tuple[int, int]) -> tuple[A.Compose, A.Compose]:
    """The recipe's augmentation for images of `size` (height, width): for training, and for validation and test.

    Raises UserWarning where Albumentations would only warn of an argument that it ignores.
    """
    h, w = size
    pad_h, pad_w = round(recipe.pad * h), round(recipe.pad * w)
    hole_h, hole_w = round(recipe.hole * h), round(recipe.hole * w)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        normalize, to_tensor = A.Normalize(recipe.mean, recipe.std), A.ToTensorV2()
        augment, cutout = [], []
        if recipe.pad:
            # RandomCrop(pad_if_needed=True) never pads an image that already has the crop's size
            augment += [A.PadIfNeeded(h + 2 * pad_h, w + 2 * pad_w, border_mode=cv2.BORDER_REFLECT_101)]
            augment += [A.RandomCrop(h, w)]
        if recipe.flip:
            augment += [A.HorizontalFlip(p=recipe.flip)]
        if recipe.hole:
            cutout += [A.CoarseDropout((1, 1), (hole_h, hole_h), (hole_w, hole_w), fill=0, p=1.0)]
        return A.Compose([*augment, normalize, *cutout, to_tensor]), A.Compose([normalize, to_tensor])


class AlbumentationsTransform(RandTransform):
    """One item transform around two `A.Compose`: `train` for the training set, `valid` for all others.

    Encodes a PILImage to what the Compose gives, a float TensorImage of C x H x W. Decodes back to RGB in [0, 1] with
    the statistics of the Compose's own Normalize, so that everything that fastai shows has its true colours.
    """

    split_idx, order = None, 0

    def __init__(self, train: A.Compose, valid: A.Compose):
        super().__init__(p=1.0)
        self.train, self.valid = train, valid
        self.normalize = next((t for t in valid.transforms if isinstance(t, A.Normalize)), None)

    def set_draws(self, key: Sequence[int]) -> None:
        """Let `key` (ints) alone decide what the training Compose draws next."""
        self.train.set_random_state(np.random.default_rng(key), random.Random(str(key)))

    def before_call(self, b, split_idx: int | None) -> None:
        """Choose the Compose of the subset that the item comes from."""
        self.compose = self.train if split_idx == 0 else self.valid

    def encodes(self, x: PILImage) -> TensorImage:
        """H x W x 3 in 0-255 to what the network takes."""
        return TensorImage(self.compose(image=np.asarray(x))['image'])

    def decodes(self, x: TensorImage) -> TensorImage:
        """What the network takes to what a person can look at."""
        if self.normalize is None:
            return x
        mean, std = (torch.tensor(o, device=x.device)[:, None, None] for o in (self.normalize.mean, self.normalize.std))
        return (x * std + mean).clamp(0, 1)


class BatchedTransform(AlbumentationsTransform):
    """The same as one batch transform, around two `BatchedCompose`; raises `Unbatchable` where that can't be.

    Takes (images, labels if there are any, draws) as `data.seeded.BatchedDL` makes them, images of `size` (height,
    width) as uint8, and gives them without the draws.
    """

    def __init__(self, train: A.Compose, valid: A.Compose, size: tuple[int, int]):
        super().__init__(train, valid)
        self.train, self.valid = BatchedCompose(train, size), BatchedCompose(valid, size)

    def compose(self, split_idx: int | None) -> BatchedCompose:
        """The one for the subset that a batch comes from."""
        return self.train if split_idx == 0 else self.valid

    def __call__(self, b: tuple, split_idx: int | None = None, **kwargs) -> tuple:
        """What the network takes."""
        x, *y, draws = b
        return TensorImage(self.compose(split_idx)(x.as_subclass(Tensor), draws)), *y
