"""Crop photographs one by one, and normalise whole batches."""

import cv2
import numpy as np
import torch
from torch import Tensor

from data.augment import AlbumentationsTransform
from data.batched_loader import BatchedDL
from runtime.errors import UserError


class PhotoDL(BatchedDL):
    """A BatchedDL whose items have different sizes: its item transforms crop and resize each image to one size.

    `pixels` are `data.photographs.Photographs`. The draws of the item transforms depend on (seed, epoch, image) alone.
    """

    ahead = 1  # making several batches at once would gain little: cropping takes most of the time

    def give_key(self, s: int, time: int) -> AlbumentationsTransform:
        """Like SeededDL's, but the key is one number: NumPy seeds a generator with it 40 us faster than with four."""
        tfm = super().give_key(s, time)
        tfm.key = ((self.seed << 32 | self.stream) << 32 | s) << 32 | time
        return tfm

    def images(self, idxs: list[int], times: list[int]) -> Tensor:
        """Return the items `idxs` after their `AlbumentationsTransform`: uint8, N x 3 x H x W."""
        images, split = [], self.after_item.split_idx
        for i, time in zip(idxs, times, strict=True):
            images.append(self.give_key(i, time).augmented(self.pixels[i], split))
        height, width, channels = images[0].shape
        if any(image.shape != images[0].shape for image in images):
            raise UserError('augment: the transforms make images of several sizes: end with a crop or a resize')
        planes = np.empty((len(images), channels, height, width), np.uint8)
        for image, mine in zip(images, planes, strict=True):
            cv2.split(image, list(mine))  # a strided copy takes 30 times as long
        return torch.from_numpy(planes)
