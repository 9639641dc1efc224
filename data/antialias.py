"""Resize images with torch's antialiased filters: as good as OpenCV's INTER_AREA, in a third of the time.

The filters are Pillow's: in `tests/data/test_antialias.py` no value differs by more than 1 of 255.
"""

import albumentations as A
import numpy as np
import torch
from torch.nn.functional import interpolate

from data.sizes import Size, shrunk


def resize(image: np.ndarray, size: Size, mode: str = 'bilinear') -> np.ndarray:
    """Resize `image`, H x W x 3, uint8, to `size` (height, width); `mode` is 'bilinear' or 'bicubic'."""
    if image.shape[:2] == tuple(size):
        return image
    x = torch.from_numpy(np.require(image, requirements='CW'))[None].permute(0, 3, 1, 2)
    return interpolate(x, tuple(size), mode=mode, antialias=True)[0].permute(1, 2, 0).numpy()


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Shrink `image`, H x W x 3, uint8, until its shorter side has `side` pixels; a smaller image is returned as it is.

    Bicubic, since a later bilinear crop then loses less than after bilinear shrinking (docs/own-images.md).
    """
    return resize(image, shrunk(image.shape[:2], side), 'bicubic')


class RandomResizedCrop(A.RandomResizedCrop):
    """Albumentations' transform, with `resize` instead of OpenCV's filters."""

    def apply(self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **params) -> np.ndarray:
        left, top, right, bottom = crop_coords
        return resize(img[top:bottom, left:right], self.size)


class SmallestMaxSize(A.SmallestMaxSize):
    """Albumentations' transform for one size, with `resize` instead of OpenCV's filters."""

    def apply(self, img: np.ndarray, scale: float, **params) -> np.ndarray:
        return resize(img, tuple(max(1, round(side * scale)) for side in img.shape[:2]))
