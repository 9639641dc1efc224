"""Convolutions by Winograd's minimal filtering, which spares a CPU most of their multiplications.

Lavin & Gray 2015, arXiv 1509.09308. A 3x3 convolution multiplies 9 times for each pixel and pair of channels; on tiles
of m x m pixels it's ((m + 2) / m)^2 times, 1.65 for m = 7, and some sums. PyTorch's library for CPUs has it for a few
processors and only where it's asked for, which PyTorch doesn't (https://github.com/uxlfoundation/oneDNN/issues/491,
the first comment in https://github.com/uxlfoundation/oneDNN/pull/3139). On GPUs cuDNN has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Where polynomials are evaluated, beside infinity: tiles of m take the first m + 1. Rounding errors grow with their
# number, from 3e-7 of the result's norm (m = 2) to 5e-5 (7).
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 4)
SIDE = 32  # pixels, at most: the sums are products with a matrix over the whole side, nearly all zeros in a larger one
# With fewer channels, and fewer pixels in a batch, the sums take longer than the products that they save. With AVX-512
# that is sooner so: on AMD's processors PyTorch's convolutions use it, its matrix products (MKL's) don't, and have half
# their speed. Measured by benchmarks/winograd.py; Arm, and Intel's with AVX-512, are not.
CHANNELS, PIXELS = (256, 5000) if torch.backends.cpu.get_cpu_capability() == 'AVX512' else (64, 1000)


@contextmanager
def winograd_convolutions(model: nn.Module) -> Iterator[None]:
    """Convolve by Winograd's algorithm meanwhile, on a CPU, where `model` has convolutions that gain by it.

    Those are 3x3, of stride 1, and keep the image's size. Afterwards they are PyTorch's again, which differ by rounding
    and can be exported and differentiated twice.
    """
    names = 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'padding_mode'
    form = [(3, 3), (1, 1), (1, 1), (1, 1), 1, 'zeros']
    convs = [m for m in model.modules() if type(m) is nn.Conv2d and [getattr(m, name) for name in names] == form]
    convs = [m for m in convs if min(m.in_channels, m.out_channels) >= CHANNELS]
    for conv in convs:
        conv.__class__ = _WinogradConv2d
    try:
        yield
    finally:
        for conv in convs:
            conv.__class__ = nn.Conv2d


class _WinogradConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        # the sums enlarge rounding errors, and those of 16 bits are too large to begin with
        fits = x.device.type == 'cpu' and x.dtype == torch.float32 and x.ndim == 4
        if not fits or max(x.shape[2:]) > SIDE or x[:, 0].numel() < PIXELS:
            return super().forward(x)
        y = winograd(x, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]


@torch.compiler.disable  # which can't follow products that are written into a part of a tensor
def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """N x C x H x W and K x C x 3 x 3 to N x K x H x W, what `conv2d` gives with padding 1, but for rounding."""
    return _Winograd.apply(x.as_subclass(Tensor).permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)


class _Winograd(torch.autograd.Function):
    """The paper's A'[(G g G') * (B' d B)]A, in which a point's product is one of matrices, over the channels.

    It is linear in the input d and in the filters g, so that their gradients go the same way, transposed.
    """

    @staticmethod
    def forward(ctx, x, weight):
        k, c = weight.shape[:2]
        rows, columns = ctx.sides = _side(x.shape[1], x.dtype), _side(x.shape[2], x.dtype, tiles_last=True)
        x = _both(rows.input, columns.input, x)
        filters = torch.kron(rows.filter, columns.filter) @ weight.permute(2, 3, 0, 1).reshape(9, k * c)
        filters = filters.view(-1, k, c)
        ctx.save_for_backward(x, filters)
        return _both(rows.output.T, columns.output.T, _products(x, filters.mT, rows, columns))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, filters), (rows, columns) = ctx.saved_tensors, ctx.sides
        grad = _both(rows.output, columns.output, grad)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _both(rows.input.T, columns.input.T, _products(grad, filters, rows, columns))
        if ctx.needs_input_grad[1]:
            pairs = zip(_tiles(grad, rows, columns), _tiles(x, rows, columns), strict=True)
            dw = sum(g.permute(1, 2, 0) @ o.transpose(0, 1) for g, o in pairs)
            dw = torch.kron(rows.filter, columns.filter).T @ dw.flatten(1)
            dw = dw.view(3, 3, *filters.shape[1:]).permute(2, 3, 0, 1)
        return dx, dw


class _Side(NamedTuple):
    """The transforms along one side of an image: `S` pixels, `T` tiles, `P` points in each."""

    tiles: int
    points: int
    input: Tensor  # T P x S, B' for each tile
    filter: Tensor  # P x 3, G
    output: Tensor  # T P x S, A for each tile


@lru_cache
def _side(pixels: int, dtype: torch.dtype, tiles_last: bool = False) -> _Side:
    """For the tiles of 2 to 7 pixels that have the fewest points together; `tiles_last` swaps `T P` for `P T`.

    Toom-Cook: a polynomial of 3 coefficients times one of m is the one of m + 2 that has the product of their values at
    m + 2 points. By the transposition principle that becomes the correlation of m + 2 pixels with a filter of 3.
    """
    m = min(range(2, len(POINTS)), key=lambda m: -(-pixels // m) * (m + 2))
    tiles, points = -(-pixels // m), m + 2
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
    return _Side(tiles, points, inputs, filters, outputs)


def _both(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """N x H x W x C by matrices of I x H and J x W to N x I x J x C."""
    n, h, w, c = x.shape
    return columns @ (rows @ x.reshape(n, h, w * c)).view(n, len(rows), w, c)


def _products(x: Tensor, filters: Tensor, rows: _Side, columns: _Side) -> Tensor:
    """N x T P x Q U x C by filters of P Q x C x K to N x T P x Q U x K."""
    out = x.new_empty(*x.shape[:3], filters.shape[-1])
    # a column of tiles at a time, or all would have to be copied to lie in one matrix for each point
    for tile, result in zip(_tiles(x, rows, columns), _tiles(out, rows, columns), strict=True):
        torch.bmm(tile.transpose(0, 1), filters, out=result.transpose(0, 1))
    return out


def _tiles(x: Tensor, rows: _Side, columns: _Side) -> tuple[Tensor, ...]:
    """Views of N x T P x Q U x C for each of the U columns of tiles: N T x P Q x C."""
    shape = len(x) * rows.tiles, rows.points * columns.points, columns.tiles, x.shape[-1]
    return x.view(shape).unbind(2)
