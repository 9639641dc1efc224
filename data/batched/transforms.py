"""Batched versions of Albumentations' transforms: the steps of `data.batched.compose.BatchedCompose`.

A step is made from the transform, and the size (height, width) and dtype of its input images. `draw` turns `draws`
uniform numbers in [0, 1) per image into `columns` integers, which alone determine the step's result. `size` and `dtype`
are those of the output, if they differ from the input's. A step raises ValueError, naming the arguments, if they have
no batched version.
"""

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor, nn


class Step(nn.Module):
    """A step without draws."""

    draws = columns = 0

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        return uniform


class Move(Step):
    """A step that moves pixels: updates the source `rows` and `cols` of each pixel (n or 1 x length)."""


class Pad(Move):
    """PadIfNeeded, with any border mode that copies pixels."""

    def __init__(self, t: A.PadIfNeeded, size: tuple[int, int], dtype: type):
        super().__init__()
        if t.border_mode == cv2.BORDER_CONSTANT or t.position == 'random':
            raise ValueError(f'border_mode={t.border_mode}, position={t.position!r}')
        pads = t.get_params_dependent_on_data({'shape': size}, {})
        for name, length, before, after in ('rows', size[0], 'top', 'bottom'), ('cols', size[1], 'left', 'right'):
            around = range(-pads[f'pad_{before}'], length + pads[f'pad_{after}'])
            inside = [cv2.borderInterpolate(i, length, t.border_mode) for i in around]
            self.register_buffer(name, torch.tensor(inside))
        self.size = len(self.rows), len(self.cols)

    def forward(self, rows: Tensor, cols: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return rows[:, self.rows], cols[:, self.cols]


class Crop(Move):
    """RandomCrop; its columns are the window's top and left."""

    draws = columns = 2

    def __init__(self, t: A.RandomCrop, size: tuple[int, int], dtype: type):
        super().__init__()
        self.size, self.room = (t.height, t.width), np.subtract(size, (t.height, t.width))
        if (self.room < 0).any():
            raise ValueError(f'a window of {t.height}x{t.width} in {size[0]}x{size[1]} pixels')

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        return (self.room + 1) * uniform

    def forward(self, rows: Tensor, cols: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        # slices, not lists as indices: these would be copied to the GPU while the host waits
        windows = (draws[:, i : i + 1] + torch.arange(n, device=draws.device) for i, n in enumerate(self.size))
        return tuple(o.expand(len(draws), -1).gather(1, w) for o, w in zip((rows, cols), windows, strict=True))


class Flip(Move):
    """HorizontalFlip; its column is 1 where the image is flipped."""

    draws = columns = 1

    def __init__(self, t: A.HorizontalFlip, size: tuple[int, int], dtype: type):
        super().__init__()
        self.p = t.p

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        return uniform < self.p

    def forward(self, rows: Tensor, cols: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return rows, torch.where(draws == 1, cols.flip(1), cols)


class Normalize(Step):
    """Normalize, in Albumentations' own float32 arithmetic: it multiplies by a reciprocal."""

    dtype = np.float32

    def __init__(self, t: A.Normalize, size: tuple[int, int], dtype: type):
        super().__init__()
        if t.normalization != 'standard' or dtype != np.uint8:
            raise ValueError(f'normalization={t.normalization!r} of {np.dtype(dtype).name}')
        self.register_buffer('mean', torch.tensor(t.mean_np).reshape(-1, 1, 1))
        self.register_buffer('scale', torch.tensor(t.denominator).reshape(-1, 1, 1))

    def forward(self, x: Tensor, draws: Tensor) -> Tensor:
        """Round to float32 twice, as in Albumentations' table of the 256 values; a table takes 15 times as long."""
        return x.float().sub_(self.mean).mul_(self.scale)  # not x - mean, which converts 7 times as slowly


class Cutout(Step):
    """CoarseDropout with a fill colour; a hole's columns are top, left, height (0 if there is no hole) and width."""

    def __init__(self, t: A.CoarseDropout, size: tuple[int, int], dtype: type):
        super().__init__()
        if isinstance(t.fill, str):
            raise ValueError(f'fill={t.fill!r}')
        self.p, self.size, self.least = t.p, size, t.num_holes_range[0]
        self.ranges, self.most = (t.hole_height_range, t.hole_width_range), t.num_holes_range[1]
        self.draws, self.columns = 2 + 4 * self.most, 4 * self.most
        self.fill = np.array(t.fill, dtype).ravel().tolist()  # one value per channel, or one for all

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Place and size the holes as Albumentations does; an unused hole gets height 0."""
        number = self.least + np.floor(uniform[:, 1:2] * (self.most - self.least + 1))
        exists = (uniform[:, :1] < self.p) & (np.arange(self.most) < number)
        places, lengths = [], []
        for i, (length, (low, high)) in enumerate(zip(self.size, self.ranges, strict=True)):
            u = uniform[:, 2 + i :: 4]
            if self.ranges[0][1] >= 1:  # in pixels; the height's range decides for both sides
                low, high = int(low), int(min(high, length))
                lengths.append(low + np.floor(u * (high - low + 1)))
            else:
                lengths.append(np.floor(length * (low + (high - low) * u)))
            places.append(np.floor(uniform[:, 4 + i :: 4] * (length - lengths[-1] + 1)))
        lengths[0] *= exists
        return np.stack([*places, *lengths], -1).reshape(len(uniform), -1)

    def forward(self, x: Tensor, draws: Tensor) -> Tensor:
        """Fill the holes, in place if `x` is float and so is Normalize's own output: a copy takes a third longer."""
        if x.dtype == torch.uint8:
            x = x.clone()
        for hole in draws.split(4, 1):
            start, length = hole.split(2, 1)
            inside = []
            for n, first, many in zip(x.shape[2:], start.split(1, 1), length.split(1, 1), strict=True):
                at = torch.arange(n, device=x.device) - first
                inside.append(((at >= 0) & (at < many)).byte())
            rows, cols = inside
            # `&` of bools takes three times as long as a product of bytes
            hidden = (rows[:, None, :, None] * cols[:, None, None, :]).view(torch.bool)
            for channels, value in zip(x.chunk(len(self.fill), 1), self.fill, strict=True):
                channels.masked_fill_(hidden, value)
        return x


STEPS = {
    A.PadIfNeeded: Pad,
    A.RandomCrop: Crop,
    A.HorizontalFlip: Flip,
    A.Normalize: Normalize,
    A.CoarseDropout: Cutout,
}
