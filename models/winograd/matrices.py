"""The transform matrices of Winograd's algorithm along one side of an image."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Points where polynomials are evaluated, besides infinity: tiles of m pixels use the first m + 1. Rounding errors grow
# with m, from 3e-7 of the result's norm (m = 2) to 5e-5 (m = 7).
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 4)


class Side(NamedTuple):
    """The transforms along one side of an image: S pixels, T tiles, P points in each tile."""

    tiles: int
    points: int
    input: Tensor  # T P x S, B' for each tile
    filter: Tensor  # P x 3, G
    output: Tensor  # T P x S, A for each tile


def sides(x: Tensor) -> tuple[Side, Side]:
    """The transforms along the height and along the width of `x` (N x H x W x C)."""
    return _side(x.shape[1], x.dtype), _side(x.shape[2], x.dtype, tiles_last=True)


def tiling(pixels: int) -> tuple[int, int]:
    """Number of tiles of a side and points in each, for the tile size (2 to 7 pixels) with the fewest points in all."""
    m = min(range(2, len(POINTS)), key=lambda m: -(-pixels // m) * (m + 2))
    return -(-pixels // m), m + 2


@lru_cache
def _side(pixels: int, dtype: torch.dtype, tiles_last: bool = False) -> Side:
    """The transforms of a side in tiles of m = `points` - 2 pixels; `tiles_last` orders rows as P T instead of T P.

    Toom-Cook: the product of a polynomial with 3 coefficients and one with m has m + 2 coefficients, so its values at
    m + 2 points determine it. Transposed, this computes the correlation of m + 2 pixels with a filter of 3.
    """
    tiles, points = tiling(pixels)
    m = points - 2
    values = [np.vander(POINTS[: m + 1], n, increasing=True) for n in (3, m, points)]
    # a polynomial's value at infinity is its highest coefficient
    filters, outputs, square = (np.vstack([a, np.eye(a.shape[1])[-1]]) for a in values)
    interpolation = np.linalg.inv(square).T
    inputs = [np.pad(interpolation, ((0, 0), (t * m, (tiles - 1 - t) * m))) for t in range(tiles)]
    # drop the columns of the zero padding and of the pixels that the last tile has beyond the image
    per_tile = np.concatenate(inputs)[:, 1 : pixels + 1], np.kron(np.eye(tiles), outputs)[:, :pixels]
    if tiles_last:
        per_tile = (a.reshape(tiles, points, pixels).swapaxes(0, 1).reshape(-1, pixels) for a in per_tile)
    inputs, outputs, filters = (torch.tensor(a, dtype=dtype, device='cpu') for a in (*per_tile, filters))
    return Side(tiles, points, inputs, filters, outputs)
