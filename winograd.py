"""Convolutions by Winograd's minimal filtering, which train a network on a CPU in about half the time.

Lavin & Gray 2015, arXiv 1509.09308. A 3x3 convolution multiplies 9 times for each pixel and pair of channels; on tiles
of m x m pixels it's ((m + 2) / m)^2 times, 1.65 for m = 7, and some sums. PyTorch's library for CPUs has it for a few
processors, where PyTorch doesn't ask for it: https://github.com/uxlfoundation/oneDNN/pull/3139. On GPUs cuDNN does it.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Where the polynomials are evaluated that a row of pixels and one of the filter stand for, beside infinity: a tile of m
# takes the first m + 1. Rounding errors grow with their number, from 3e-7 of the result's norm (m = 2) to 5e-5 (7).
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 4)
CHANNELS = 64  # with fewer the sums take longer than the products that they save: benchmarks/winograd.py
SIDE = 32  # pixels, at most, for the same reason


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 that keeps the image's size, by Winograd's algorithm where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x K x H x W."""
        if x.device.type != 'cpu' or max(x.shape[2:]) > SIDE or torch.compiler.is_exporting():
            return super().forward(x)
        y = winograd(x, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]


def use_winograd(model: nn.Module) -> None:
    """Make each convolution of `model` a `WinogradConv2d` that can be one, with the weights that it has."""
    names = 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'padding_mode'
    form = [(3, 3), (1, 1), (1, 1), (1, 1), 1, 'zeros']
    for m in [m for m in model.modules() if type(m) is nn.Conv2d]:
        if [getattr(m, name) for name in names] == form and min(m.in_channels, m.out_channels) >= CHANNELS:
            m.__class__ = WinogradConv2d


@torch.compiler.disable  # which can't follow products that are written into a larger tensor
def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """N x C x H x W and K x C x 3 x 3 to N x K x H x W, what `conv2d` gives with padding 1, but for rounding."""
    return _Winograd.apply(x.as_subclass(Tensor), weight)


class _Winograd(torch.autograd.Function):
    """Takes pixels and filters to points, multiplies them at each, and takes the products to pixels again.

    At a point that's a product of two matrices, over the channels. All of it is linear in the pixels and in the
    filters, so that gradients go the same way, transposed.
    """

    @staticmethod
    def forward(ctx, x, weight):
        high, wide = ctx.axes = [_axis(side, x.dtype) for side in x.shape[2:]]
        pixels = _to_points(x, high.pixels, wide.pixels)
        k, c = weight.shape[:2]
        filters = (torch.kron(high.filter, wide.filter) @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(-1, k, c)
        ctx.save_for_backward(pixels, filters)
        return _to_pixels(_products(pixels, filters.mT), high.result, wide.result)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (pixels, filters), (high, wide) = ctx.saved_tensors, ctx.axes
        grad = _to_points(grad, high.result, wide.result)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _to_pixels(_products(grad, filters), high.pixels, wide.pixels)
        if ctx.needs_input_grad[1]:
            pairs = zip(grad.unbind(2), pixels.unbind(2), strict=True)
            at_points = sum(g.permute(1, 2, 0) @ p.transpose(0, 1) for g, p in pairs)
            dw = torch.kron(high.filter, wide.filter).T @ at_points.flatten(1)
            dw = dw.view(3, 3, *filters.shape[1:]).permute(2, 3, 0, 1)
        return dx, dw


class _Axis(NamedTuple):
    """The transforms along one side of an image of `S` pixels, in `T` tiles of which each has `P` points."""

    pixels: Tensor  # T x P x S, from pixels to points
    filter: Tensor  # P x 3, from a filter to points
    result: Tensor  # T x P x S; transposed from points to pixels


@lru_cache
def _axis(side: int, dtype: torch.dtype) -> _Axis:
    """In tiles of 2 to 7 pixels, as few points as can be."""
    size = min(range(2, len(POINTS)), key=lambda m: -(-side // m) * (m + 2))
    tiles = -(-side // size)
    # One row for each point: its powers evaluate a polynomial there. Two of them multiplied point by point, one
    # of 3 coefficients and one of `size`, and solved for the product's coefficients, are a full convolution. Transposed
    # that is the filter moved along the pixels.
    powers = np.vander([*POINTS[: size + 1], 0.0], size + 2, increasing=True)
    powers[-1] = np.eye(size + 2)[-1]  # at infinity only the highest coefficient is left
    filters, results = powers[:, :3].copy(), powers[:, :size].copy()
    filters[-1], results[-1] = np.eye(3)[-1], np.eye(size)[-1]
    place = np.zeros((tiles, size + 2, tiles * size + 2))
    out = np.zeros((tiles, size + 2, tiles * size))
    for t in range(tiles):
        place[t, :, t * size : t * size + size + 2] = np.linalg.inv(powers).T
        out[t, :, t * size : (t + 1) * size] = results
    # the border's zeros need no columns
    return _Axis(*(torch.as_tensor(a, dtype=dtype) for a in (place[..., 1 : side + 1], filters, out[..., :side])))


def _to_points(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """N x C x H x W and T x P x H, U x Q x W to (N T) x (P Q) x U x C: for each point tiles and channels."""
    n, c, h, w = x.shape
    x = (rows.flatten(0, 1) @ x.permute(0, 2, 3, 1).reshape(n, h, w * c)).view(n, -1, w, c)
    return (columns.transpose(0, 1).flatten(0, 1) @ x).view(n * len(rows), -1, len(columns), c)


def _to_pixels(points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The transpose of `_to_points`."""
    n, c = len(points) // len(rows), points.shape[-1]
    x = rows.flatten(0, 1).T @ points.view(n, rows.shape[0] * rows.shape[1], -1)
    x = columns.transpose(0, 1).flatten(0, 1).T @ x.view(n, rows.shape[2], -1, c)
    return x.permute(0, 3, 1, 2)


def _products(points: Tensor, filters: Tensor) -> Tensor:
    """N x P x U x C and P x C x K to N x P x U x K, each point's product."""
    out = points.new_empty(*points.shape[:3], filters.shape[-1])
    for tile, result in zip(points.unbind(2), out.unbind(2), strict=True):
        torch.bmm(tile.transpose(0, 1), filters, out=result.transpose(0, 1))
    return out
