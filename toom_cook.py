"""The matrices by which a correlation with three numbers becomes products at a few points."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Where polynomials are evaluated, beside infinity: tiles of m take the first m + 1. Rounding errors grow with their
# number, from 3e-7 of the result's norm (m = 2) to 5e-5 (7).
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 4)


class Side(NamedTuple):
    """The transforms along one side of an image: `S` pixels, `T` tiles, `P` points in each."""

    tiles: int
    points: int
    input: Tensor  # T P x S, B' for each tile
    filter: Tensor  # P x 3, G
    output: Tensor  # T P x S, A for each tile


def sides(x: Tensor) -> tuple[Side, Side]:
    """Of N x H x W x C: that of the height, and that of the width."""
    return _side(x.shape[1], x.dtype), _side(x.shape[2], x.dtype, tiles_last=True)


def tiling(pixels: int) -> tuple[int, int]:
    """How many tiles a side has, and points each: of the tiles of 2 to 7 pixels those with the fewest points in all."""
    m = min(range(2, len(POINTS)), key=lambda m: -(-pixels // m) * (m + 2))
    return -(-pixels // m), m + 2


@lru_cache
def _side(pixels: int, dtype: torch.dtype, tiles_last: bool = False) -> Side:
    """The transforms of a side in tiles of m = `points` - 2 pixels; `tiles_last` swaps `T P` for `P T`.

    Toom-Cook: a polynomial of 3 coefficients times one of m is the one of m + 2 that has the product of their values at
    m + 2 points. By the transposition principle that becomes the correlation of m + 2 pixels with a filter of 3.
    """
    tiles, points = tiling(pixels)
    m = points - 2
    values = [np.vander(POINTS[: m + 1], n, increasing=True) for n in (3, m, points)]
    # at infinity a polynomial has its highest coefficient for a value
    filters, outputs, square = (np.vstack([a, np.eye(a.shape[1])[-1]]) for a in values)
    interpolation = np.linalg.inv(square).T
    inputs = [np.pad(interpolation, ((0, 0), (t * m, (tiles - 1 - t) * m))) for t in range(tiles)]
    # without the columns of the border's zeros, and of what the last tile has beyond
    per_tile = np.concatenate(inputs)[:, 1 : pixels + 1], np.kron(np.eye(tiles), outputs)[:, :pixels]
    if tiles_last:
        per_tile = (a.reshape(tiles, points, pixels).swapaxes(0, 1).reshape(-1, pixels) for a in per_tile)
    inputs, outputs, filters = (torch.tensor(a, dtype=dtype, device='cpu') for a in (*per_tile, filters))
    return Side(tiles, points, inputs, filters, outputs)
