"""Albumentations as a fastai transform."""

import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from fastai.vision.all import DisplayedTransform, IntToFloatTensor, Normalize, PILImage, RandTransform, TensorImage
from PIL import Image, ImageOps
from torch import Tensor

from config.recipes import Recipe
from data.antialias import RandomResizedCrop, SmallestMaxSize, shrink
from data.batched.compose import BatchedCompose
from data.decode import open_rgb, read_any
from data.limits import BadImage
from data.own_augment import fit_augment
from data.sizes import CENTRE, Size, find_odd_sizes
from runtime.errors import UserError

BILINEAR = Image.Resampling.BILINEAR  # averages over all source pixels, unlike OpenCV's


def get_transforms(
    recipe: Recipe, size: tuple[int, int], resize: bool = False, pixels: str = 'direct', own: A.Compose | None = None
) -> tuple[A.Compose, A.Compose]:
    """Return the recipe's transforms for images of `size` (height, width): for training, and for validation and test.

    With `resize` images may have any size: training resizes a random crop (Szegedy et al. 2014, arXiv 1409.4842,
    6); validation and test resize the shorter side, then crop the centre. `pixels` is one of `config.pixels.PIXELS`.
    `own` replaces crop, flip and hole in training; `fit_augment` raises UserError if it doesn't fit. Raises UserWarning
    if Albumentations ignores an argument.
    """
    h, w = size
    pad_h, pad_w = round(recipe.pad * h), round(recipe.pad * w)
    hole_h, hole_w = round(recipe.hole * h), round(recipe.hole * w)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        normalize, to_tensor = A.Normalize(recipe.mean, recipe.std), A.ToTensorV2()
        augment, centre, cutout = [], [], []
        if resize and pixels != 'direct':
            augment += [RandomResizedCrop(size, scale=(recipe.min_scale, 1.0))]
            centre += [SmallestMaxSize(round(max(size) / CENTRE)), A.CenterCrop(h, w)]
        elif resize:
            area = {'area_for_downscale': 'image'}  # linear interpolation would skip pixels when downscaling
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
        if own:
            augment, cutout = fit_augment(own, size, augment[:1] if resize else []), []
        return A.Compose([*augment, normalize, *cutout, to_tensor]), A.Compose([*centre, normalize, to_tensor])


def split_transforms(compose: A.Compose) -> tuple[A.Compose, A.Compose]:
    """Split `compose` before its Normalize: the first part is for single images, the second for batches of one size."""
    at = next(i for i, t in enumerate(compose.transforms) if isinstance(t, A.Normalize))
    return A.Compose(compose.transforms[:at]), A.Compose(compose.transforms[at:])


class OpenImage(DisplayedTransform):
    """Open a file, or another input of `learn.predict`, as a PILImage for the other transforms.

    If those resize (`resized`), a JPEG is decoded no larger than they need. Otherwise an image of another size than
    `size` (height, width), possible only in prediction, is scaled until it covers `size`, keeping its proportions, and
    cropped at the centre. With `side`, `data.antialias.shrink` shrinks every image to it. `check` checks files
    when they are opened; by default they were checked before.
    """

    input_types = str, Path, bytes, np.ndarray, Image.Image  # `learn.predict` looks this up

    def __init__(self, size: Size, resized: bool, check: bool = False, side: int | None = None):
        self.size, self.resized, self.check, self.side = size, resized, check, side
        # by default twice the size, so that a crop of a quarter of the area isn't enlarged
        self.shorter = side or (2 * max(size) if resized else None)

    def encodes(self, item: str | Path | bytes | np.ndarray | Image.Image) -> PILImage:
        """Decode as RGB. Raises UserError if a checked file has changed; `BadImage` if another item can't be used."""
        if self.check or not isinstance(item, str | Path):
            image = read_any(item, self.shorter)
        else:
            try:
                image = open_rgb(item, self.shorter)
            except BadImage as e:
                raise UserError(f'{item} has changed since it was checked: {e}') from e
        if self.resized and self.check and (odd := find_odd_sizes({Path(): image.shape}, self.size, True)):
            raise BadImage(odd[0][1])
        if self.side:
            return PILImage.create(shrink(np.asarray(image), self.side))
        if self.resized or image.shape == self.size:
            return image
        # fastai's own crop can round to zero pixels for an image one pixel wide
        return PILImage.create(ImageOps.fit(image, self.size[::-1], BILINEAR))


class FloatImage(TensorImage):
    """Float images: fastai's IntToFloatTensor, which divides by 255, leaves them unchanged."""


class NormalizedImage(FloatImage):
    """Normalised images: fastai's Normalize, which `vision_learner` adds, leaves them unchanged."""


for transform, kind in (IntToFloatTensor, FloatImage), (Normalize, NormalizedImage):

    @transform  # fastai's way to add a type to a transform
    def encodes(self, x: kind) -> kind:  # noqa: D103
        return x

    @transform
    def decodes(self, x: kind) -> kind:  # noqa: D103
        return x


class AlbumentationsTransform(RandTransform):
    """An item transform with two `A.Compose`: `train` for the training set, `valid` for all others.

    Encodes a PILImage to the Compose's output, C x H x W, which fastai neither divides by 255 nor normalises again.
    Decodes to RGB in [0, 1] with the statistics of the Compose's Normalize, so that fastai shows true colours. Works in
    any fastai DataBlock, after a Resize.
    """

    split_idx, order = None, 2  # fastai's Resize has 1, its ToTensor 5
    key: Sequence[int] | int | None = None  # seeds the next training augmentation; without a key Python's `random` does

    def __init__(self, train: A.Compose, valid: A.Compose):
        super().__init__(p=1.0)
        self.train, self.valid = train, valid
        self.normalize = next((t for t in valid.transforms if isinstance(t, A.Normalize)), None)

    def before_call(self, b, split_idx: int | None) -> None:
        self.split = split_idx

    def augmented(self, image: np.ndarray, split_idx: int | None) -> Tensor | np.ndarray:
        """Return the output of the Compose for `image`, H x W x 3, uint8: an array if it has no ToTensorV2."""
        compose = self.train if split_idx == 0 else self.valid
        if compose is self.train:
            # each worker gets the same copy of the Compose's own random state in each epoch
            key, self.key = self.key or (random.getrandbits(64),), None
            self.train.set_random_state(np.random.default_rng(key), random.Random(str(key)))
        return compose(image=image)['image']

    def encodes(self, x: PILImage) -> TensorImage:
        x = self.augmented(np.asarray(x), self.split)
        x = torch.from_numpy(x.transpose(2, 0, 1)) if isinstance(x, np.ndarray) else x
        return NormalizedImage(x) if self.normalize else FloatImage(x) if x.is_floating_point() else TensorImage(x)

    def decodes(self, x: TensorImage) -> TensorImage:
        if self.normalize is None:
            return x
        mean, std = (torch.tensor(o, device=x.device)[:, None, None] for o in (self.normalize.mean, self.normalize.std))
        return (x * std + mean).clamp(0, 1)


class BatchedTransform(AlbumentationsTransform):
    """AlbumentationsTransform for batches, with two `BatchedCompose`; raises `Unbatchable` if one is impossible.

    Takes a batch of `data.batched_loader.BatchedDL`: (images, labels if any, draws), with uint8 images of `size`
    (height, width). Returns it augmented, without the draws.
    """

    def __init__(self, train: A.Compose, valid: A.Compose, size: tuple[int, int]):
        super().__init__(train, valid)
        self.train, self.valid = BatchedCompose(train, size), BatchedCompose(valid, size)

    def compose(self, split_idx: int | None) -> BatchedCompose:
        return self.train if split_idx == 0 else self.valid

    def __call__(self, b: tuple, split_idx: int | None = None, **kwargs) -> tuple:
        x, *y, draws = b
        return NormalizedImage(self.compose(split_idx)(x.as_subclass(Tensor), draws)), *y
