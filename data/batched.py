"""An Albumentations Compose on a whole batch of images at once, on the device that trains."""

from collections.abc import Sequence

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor, nn


class Unbatchable(ValueError):
    """A Compose that has to run image by image; the message names the transform that causes it."""


class BatchedCompose(nn.Module):
    """What `compose` does to an image of `size` (height, width), done to batches of them: bit for bit, given its draws.

    `draw` makes a table of draws, a row an image, distributed as Albumentations' own, though not the same numbers.
    Calling it takes uint8 images, N x 3 x H x W, and their rows, on the same device, and gives what ToTensorV2 does.
    Transforms, sizes and probabilities are read from `compose`. Padding, crop and flip only say where a pixel comes
    from, so that all pixels move once. Raises `Unbatchable` for what isn't in `STEPS`, or is used in an unusual way.
    """

    def __init__(self, compose: A.Compose, size: tuple[int, int]):
        super().__init__()
        transforms = [t for t in compose.transforms if t.p > 0]
        if compose.p < 1:
            raise Unbatchable(f'a Compose with p={compose.p} has no batched version')
        if not transforms or type(transforms[-1]) is not A.ToTensorV2:
            raise Unbatchable('a Compose that does not end with ToTensorV2 has no batched version')
        self.steps, dtype = nn.ModuleList(), np.uint8
        for t in transforms:
            name = type(t).__name__
            if type(t) not in STEPS:
                raise Unbatchable(f'{name} has no batched version')
            if t.p < 1 and type(t) not in (A.HorizontalFlip, A.CoarseDropout):
                raise Unbatchable(f'{name} with p={t.p} has no batched version')
            if type(t) is A.ToTensorV2:
                break
            try:
                step = STEPS[type(t)](t, size, dtype)
            except ValueError as e:
                raise Unbatchable(f'{name} with {e} has no batched version') from e
            self.steps.append(step)
            size = getattr(step, 'size', size)
            dtype = getattr(step, 'dtype', dtype)
        self.register_buffer('place', torch.empty(0))  # the device that the steps' constants are on

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """A table of `n` rows, int64: the `columns` of all steps, in their order. A row doesn't depend on `n`."""
        uniform = rng.random((n, sum(step.draws for step in self.steps)))
        columns, at = [np.empty((n, 0), np.int64)], 0
        for step in self.steps:
            columns.append(step.draw(uniform[:, at : at + step.draws]).astype(np.int64))
            at += step.draws
        return np.concatenate(columns, 1)

    def forward(self, x: Tensor, draws: Tensor) -> Tensor:
        """The batch `x` with the rows `draws`, one an image."""
        if self.place.device != x.device:
            self.to(x.device)
        at, moved = 0, None
        for step in self.steps:
            mine = draws[:, at : at + step.columns]
            at += step.columns
            if isinstance(step, Move):
                moved = step(*(moved or _in_place(x)), mine)
            else:
                x, moved = _gather(x, moved), None
                x = step(x, mine)
        return _gather(x, moved)


class Move(nn.Module):
    """A step that takes each pixel from somewhere: maps `rows` and `cols`, where they came from (n or 1 x length)."""


class Pad(Move):
    """PadIfNeeded, with whatever border mode copies pixels."""

    draws = columns = 0

    def __init__(self, t: A.PadIfNeeded, size: tuple[int, int], dtype: type):
        super().__init__()
        if t.border_mode == cv2.BORDER_CONSTANT or t.position == 'random':
            raise ValueError(f'border_mode={t.border_mode}, position={t.position!r}')
        pads = t.get_params_dependent_on_data({'shape': size}, {})
        for name, length, before, after in zip(
            ('rows', 'cols'), size, ('top', 'left'), ('bottom', 'right'), strict=True
        ):
            around = range(-pads[f'pad_{before}'], length + pads[f'pad_{after}'])
            inside = [cv2.borderInterpolate(i, length, t.border_mode) for i in around]
            self.register_buffer(name, torch.tensor(inside))
        self.size = len(self.rows), len(self.cols)

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Nothing."""
        return uniform

    def forward(self, rows: Tensor, cols: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Longer ones."""
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
        """Top and left, as Albumentations makes them of such numbers."""
        return (self.room + 1) * uniform

    def forward(self, rows: Tensor, cols: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Those in the window."""
        windows = (draws[:, [i]] + torch.arange(n, device=draws.device) for i, n in enumerate(self.size))
        return tuple(o.expand(len(draws), -1).gather(1, w) for o, w in zip((rows, cols), windows, strict=True))


class Flip(Move):
    """HorizontalFlip; its column is 1 where the image is flipped."""

    draws = columns = 1

    def __init__(self, t: A.HorizontalFlip, size: tuple[int, int], dtype: type):
        super().__init__()
        self.p = t.p

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Whether to."""
        return uniform < self.p

    def forward(self, rows: Tensor, cols: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The same rows, and columns from the right."""
        return rows, torch.where(draws == 1, cols.flip(1), cols)


class Normalize(nn.Module):
    """Normalize, in Albumentations' own float32 arithmetic: it multiplies by a reciprocal."""

    draws = columns = 0
    dtype = np.float32

    def __init__(self, t: A.Normalize, size: tuple[int, int], dtype: type):
        super().__init__()
        if t.normalization != 'standard' or dtype != np.uint8:
            raise ValueError(f'normalization={t.normalization!r} of {np.dtype(dtype).name}')
        self.register_buffer('mean', torch.tensor(t.mean_np).reshape(-1, 1, 1))
        self.register_buffer('scale', torch.tensor(t.denominator).reshape(-1, 1, 1))

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Nothing."""
        return uniform

    def forward(self, x: Tensor, draws: Tensor) -> Tensor:
        """Float32, rounded twice, as in Albumentations' table of the 256 values, which takes 15 times as long here."""
        return x.float().sub_(self.mean).mul_(self.scale)  # not x - mean, which converts 7 times slower


class Holes(nn.Module):
    """CoarseDropout with a colour; each hole has the columns top, left, height and width, and none is 0 pixels high."""

    def __init__(self, t: A.CoarseDropout, size: tuple[int, int], dtype: type):
        super().__init__()
        if isinstance(t.fill, str):
            raise ValueError(f'fill={t.fill!r}')
        self.p, self.size, self.least = t.p, size, t.num_holes_range[0]
        self.ranges, self.most = (t.hole_height_range, t.hole_width_range), t.num_holes_range[1]
        self.draws, self.columns = 2 + 4 * self.most, 4 * self.most
        self.register_buffer('fill', torch.tensor(np.array(t.fill, dtype)).reshape(-1, 1, 1))

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Where the holes are and how large, as Albumentations has it: those that aren't to be have no height."""
        number = self.least + np.floor(uniform[:, 1:2] * (self.most - self.least + 1))
        exists = (uniform[:, :1] < self.p) & (np.arange(self.most) < number)
        places, lengths = [], []
        for i, (length, (low, high)) in enumerate(zip(self.size, self.ranges, strict=True)):
            u = uniform[:, 2 + i :: 4]
            if self.ranges[0][1] >= 1:  # in pixels: for both sides, says the height
                low, high = int(low), int(min(high, length))
                lengths.append(low + np.floor(u * (high - low + 1)))
            else:
                lengths.append(np.floor(length * (low + (high - low) * u)))
            places.append(np.floor(uniform[:, 4 + i :: 4] * (length - lengths[-1] + 1)))
        lengths[0] *= exists
        return np.stack([*places, *lengths], -1).reshape(len(uniform), -1)

    def forward(self, x: Tensor, draws: Tensor) -> Tensor:
        """A copy with the holes."""
        for hole in draws.split(4, 1):
            start, length = hole.split(2, 1)
            inside = []
            for i, n in enumerate(x.shape[2:]):
                at = torch.arange(n, device=x.device) - start[:, [i]]
                inside.append((at >= 0) & (at < length[:, [i]]))
            rows, cols = inside
            x = torch.where(rows[:, None, :, None] & cols[:, None, None, :], self.fill, x)
        return x


STEPS = {
    A.PadIfNeeded: Pad,
    A.RandomCrop: Crop,
    A.HorizontalFlip: Flip,
    A.Normalize: Normalize,
    A.CoarseDropout: Holes,
    A.ToTensorV2: None,  # batches are tensors already
}


def _in_place(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and columns of pixels that stay where they are."""
    return tuple(torch.arange(n, device=x.device)[None] for n in x.shape[2:])


def _gather(x: Tensor, moved: Sequence[Tensor] | None) -> Tensor:
    """`x` with its pixels from the rows and columns `moved`.

    Whole rows first, then in each row: 3 us for a 32x32 image on one core, where one index for both took 14.
    """
    if moved is None:
        return x
    rows, cols = (o.expand(len(x), -1) for o in moved)
    n, c, h, w = x.shape
    first = h * torch.arange(n * c, device=x.device).view(n, c, 1)
    x = x.reshape(-1, w).index_select(0, (first + rows[:, None]).flatten()).view(n, c, -1, w)
    return x.gather(3, cols[:, None, None].expand(-1, c, x.shape[2], -1))
