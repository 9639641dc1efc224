"""Albumentations as one fastai transform."""

import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.vision.augment import DisplayedTransform, RandTransform
from fastai.vision.core import PILImage, TensorImage
from PIL import Image, ImageOps
from torch import Tensor

from data.batched import BatchedCompose
from data.files import BadImage, open_rgb, read_any
from data.sizes import Size, odd_ones
from errors import UserError
from recipes import Recipe

BILINEAR = Image.Resampling.BILINEAR  # over all the pixels that become one
CENTRE = 0.875  # of the resized shorter side, what the centre crop keeps: 224 of 256, torchvision's and timm's usual


def get_transforms(recipe: Recipe, size: tuple[int, int], resize: bool = False) -> tuple[A.Compose, A.Compose]:
    """The recipe's augmentation for images of `size` (height, width): for training, and for validation and test.

    With `resize` images may come in any size: a random part of one is resized for training (Szegedy et al. 2014, arXiv
    1409.4842, 6), the shorter side and then its centre for the others. Raises UserWarning where Albumentations would
    only warn of an argument that it ignores.
    """
    h, w = size
    pad_h, pad_w = round(recipe.pad * h), round(recipe.pad * w)
    hole_h, hole_w = round(recipe.hole * h), round(recipe.hole * w)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        normalize, to_tensor = A.Normalize(recipe.mean, recipe.std), A.ToTensorV2()
        augment, centre, cutout = [], [], []
        if resize:
            area = {'area_for_downscale': 'image'}  # linear interpolation would skip pixels
            augment += [A.RandomResizedCrop(size, scale=(recipe.min_scale, 1.0), **area)]
            centre += [A.SmallestMaxSize(round(max(size) / CENTRE), **area), A.CenterCrop(h, w)]
        elif recipe.pad:
            # RandomCrop(pad_if_needed=True) never pads an image that already has the crop's size
            augment += [A.PadIfNeeded(h + 2 * pad_h, w + 2 * pad_w, border_mode=cv2.BORDER_REFLECT_101)]
            augment += [A.RandomCrop(h, w)]
        if recipe.flip:
            augment += [A.HorizontalFlip(p=recipe.flip)]
        if recipe.hole:
            cutout += [A.CoarseDropout((1, 1), (hole_h, hole_h), (hole_w, hole_w), fill=0, p=1.0)]
        return A.Compose([*augment, normalize, *cutout, to_tensor]), A.Compose([*centre, normalize, to_tensor])


class OpenImage(DisplayedTransform):
    """A file, or what `learn.predict` takes besides, as a PILImage for the other transforms.

    Where those resize (`resized`), a JPEG is decoded no larger than they need. Else an image of another than `size`
    (height, width), which only a prediction can have, is scaled with its proportions until it covers that, and its
    centre cut out. A file is as it was checked, or with `check` checked now.
    """

    input_types = str, Path, bytes, np.ndarray, Image.Image  # which `learn.predict` asks for

    def __init__(self, size: Size, resized: bool, check: bool = False):
        self.size, self.resized, self.check = size, resized, check
        self.shorter = 2 * max(size) if resized else None  # a crop of a quarter is then still of its own pixels

    def encodes(self, item: str | Path | bytes | np.ndarray | Image.Image) -> PILImage:
        """RGB; UserError where the file is no longer what it was, and `BadImage` where it can't be used otherwise."""
        if self.check or not isinstance(item, str | Path):
            image = read_any(item, self.shorter)
        else:
            try:
                image = open_rgb(item, self.shorter)
            except BadImage as e:  # since it was checked
                raise UserError(f'{item} is no longer what it was: {e}') from e
        if self.resized and self.check and (odd := odd_ones({Path(): image.shape}, self.size, True)):
            raise BadImage(odd[0][1])
        if self.resized or image.shape == self.size:
            return image
        # fastai's own crop can round to nothing where an image is a pixel wide
        return PILImage.create(ImageOps.fit(image, self.size[::-1], BILINEAR))


class FloatImage(TensorImage):
    """Images that are floats already: fastai's IntToFloatTensor, which divides by 255, leaves them alone."""


class NormalizedImage(FloatImage):
    """Images that are normalised already: fastai's Normalize, which `vision_learner` adds, leaves them alone."""


@IntToFloatTensor
def encodes(self, x: FloatImage) -> FloatImage:  # noqa: D103, fastai's way to add a type to a transform
    return x


@IntToFloatTensor
def decodes(self, x: FloatImage) -> FloatImage:  # noqa: D103
    return x


@Normalize
def encodes(self, x: NormalizedImage) -> NormalizedImage:  # noqa: D103, F811
    return x


@Normalize
def decodes(self, x: NormalizedImage) -> NormalizedImage:  # noqa: D103, F811
    return x


class AlbumentationsTransform(RandTransform):
    """One item transform around two `A.Compose`: `train` for the training set, `valid` for all others.

    Encodes a PILImage to what the Compose gives, C x H x W, which fastai neither divides by 255 nor normalises again.
    Decodes back to RGB in [0, 1] with the statistics of the Compose's own Normalize, so that everything that fastai
    shows has its true colours. It works in any fastai DataBlock, after a Resize.
    """

    split_idx, order = None, 2  # fastai's Resize has 1, its ToTensor 5
    key: Sequence[int] | None = None

    def __init__(self, train: A.Compose, valid: A.Compose):
        super().__init__(p=1.0)
        self.train, self.valid = train, valid
        self.normalize = next((t for t in valid.transforms if isinstance(t, A.Normalize)), None)

    def set_draws(self, key: Sequence[int]) -> None:
        """Let `key` (ints) alone decide what the training Compose draws next; without it Python's `random` decides."""
        self.key = key

    def before_call(self, b, split_idx: int | None) -> None:
        """Choose the Compose of the subset that the item comes from."""
        self.compose = self.train if split_idx == 0 else self.valid

    def encodes(self, x: PILImage) -> TensorImage:
        """H x W x 3 in 0-255 to what the network takes."""
        if self.compose is self.train:
            # a Compose's own random state is copied into each worker, anew in each epoch
            key, self.key = self.key or (random.getrandbits(64),), None
            self.train.set_random_state(np.random.default_rng(key), random.Random(str(key)))
        x = self.compose(image=np.asarray(x))['image']
        return NormalizedImage(x) if self.normalize else FloatImage(x) if x.is_floating_point() else TensorImage(x)

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
        return NormalizedImage(self.compose(split_idx)(x.as_subclass(Tensor), draws)), *y
