"""Convolutions by Winograd's minimal filtering algorithm, which saves most of the multiplications on a CPU.

Lavin & Gray 2015, arXiv 1509.09308. A direct 3x3 convolution takes 9 multiplications for each pixel and pair of
channels; Winograd's on tiles of m x m pixels takes ((m + 2) / m)^2 (1.65 for m = 7) and some additions. oneDNN,
PyTorch's CPU library, has it for a few processors and on request only, and PyTorch doesn't request it
(https://github.com/uxlfoundation/oneDNN/issues/491, the first comment in
https://github.com/uxlfoundation/oneDNN/pull/3139). On GPUs cuDNN has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.winograd.matrices import Side, sides, tiling

SIDE = 32  # maximum in pixels: the transform's matrix spans a whole side, and for a larger one it is nearly all zeros

# Minimum channels of a convolution and pixels in a batch: below them the transforms cost more than they save. Both are
# higher with AVX-512: on AMD processors PyTorch's convolutions use it; MKL's matrix products don't, and run at half
# their speed. Measured by benchmarks/winograd.py, but not on Arm, nor on Intel with AVX-512.
CHANNELS, PIXELS = (256, 5000) if torch.backends.cpu.get_cpu_capability() == 'AVX512' else (64, 1000)


@contextmanager
def winograd_convolutions(model: nn.Module) -> Iterator[None]:
    """Run the convolutions of `model` by Winograd's algorithm within this context, where that is faster on a CPU.

    It applies to 3x3 convolutions with stride 1 that keep the image's size. Afterwards they are PyTorch's again:
    results differ by rounding, and only PyTorch's can be exported and differentiated twice.
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
        # the transforms amplify rounding errors, which are too large in 16 bits already
        fits = x.device.type == 'cpu' and x.dtype == torch.float32 and x.ndim == 4
        if not fits or max(x.shape[2:]) > SIDE or x[:, 0].numel() < PIXELS:
            return super().forward(x)
        y = winograd(x, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]


def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """`conv2d` with padding 1, up to rounding: N x C x H x W and weights K x C x 3 x 3 give N x K x H x W."""
    x = x if type(x) is Tensor else x.as_subclass(Tensor)  # if needed only: the call is a graph break in torch.compile
    return _convolve(x.permute(0, 2, 3, 1), weight)[0].permute(0, 3, 1, 2)


# Custom operators: torch.compile calls them without a graph break.
@torch.library.custom_op('train_fastai::winograd', mutates_args=())
def _convolve(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's A'[(G g G') * (B' d B)]A for N x H x W x C; at each point a matrix product sums over the channels.

    It is linear in the input d and in the filters g, so the gradients use the transposed matrices. The gradients also
    need the other two results: the transformed input and filters.
    """
    k, c = weight.shape[:2]
    rows, columns = sides(x)
    x = _both(rows.input, columns.input, x)
    filters = torch.kron(rows.filter, columns.filter) @ weight.permute(2, 3, 0, 1).reshape(9, k * c)
    filters = filters.view(-1, k, c)
    return _both(rows.output.T, columns.output.T, _products(x, filters.mT, rows, columns)), x, filters


@_convolve.register_fake
def _(x, weight):
    (n, h, w, c), k = x.shape, len(weight)
    (tiles, points), (tiles_across, points_across) = tiling(h), tiling(w)
    transformed = x.new_empty(n, tiles * points, tiles_across * points_across, c)
    return x.new_empty(n, h, w, k), transformed, x.new_empty(points * points_across, k, c)


@torch.library.custom_op('train_fastai::winograd_gradients', mutates_args=())
def _gradients(grad: Tensor, x: Tensor, filters: Tensor, of_x: bool, of_weight: bool) -> tuple[Tensor, Tensor]:
    """Gradients of input and weight, each empty if not requested; `x` and `filters` are those `_convolve` returned."""
    rows, columns = sides(grad)
    grad = _both(rows.output, columns.output, grad)
    dx, dw = grad.new_empty(0), grad.new_empty(0)
    if of_x:
        dx = _both(rows.input.T, columns.input.T, _products(grad, filters, rows, columns))
    if of_weight:
        pairs = zip(_tiles(grad, rows, columns), _tiles(x, rows, columns), strict=True)
        dw = sum(g.permute(1, 2, 0) @ o.transpose(0, 1) for g, o in pairs)
        dw = torch.kron(rows.filter, columns.filter).T @ dw.flatten(1)
        dw = dw.view(3, 3, *filters.shape[1:]).permute(2, 3, 0, 1)
    return dx, dw


@_gradients.register_fake
def _(grad, x, filters, of_x, of_weight):
    (n, h, w, _), (k, c) = grad.shape, filters.shape[1:]
    dx = grad.new_empty(n, h, w, c) if of_x else grad.new_empty(0)
    return dx, grad.new_empty(3, 3, k, c).permute(2, 3, 0, 1) if of_weight else grad.new_empty(0)


def _keep(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)  # otherwise the saved tensors get zero gradients of their own size
    ctx.save_for_backward(*output[1:])


def _backward(ctx, grad, *_) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad
    grads = _gradients(grad, *ctx.saved_tensors, *needed)
    return tuple(g if need else None for g, need in zip(grads, needed, strict=True))


_convolve.register_autograd(_backward, setup_context=_keep)


def _both(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """Multiply N x H x W x C by the matrices `rows` (I x H) and `columns` (J x W) to N x I x J x C."""
    n, h, w, c = x.shape
    return columns @ (rows @ x.reshape(n, h, w * c)).view(n, len(rows), w, c)


def _products(x: Tensor, filters: Tensor, rows: Side, columns: Side) -> Tensor:
    """Multiply N x T P x Q U x C by `filters` (P Q x C x K) at each point, to N x T P x Q U x K."""
    out = x.new_empty(*x.shape[:3], filters.shape[-1])
    # one column of tiles at a time: a single product for all tiles would need a copy of them in another layout
    for tile, result in zip(_tiles(x, rows, columns), _tiles(out, rows, columns), strict=True):
        torch.bmm(tile.transpose(0, 1), filters, out=result.transpose(0, 1))
    return out


def _tiles(x: Tensor, rows: Side, columns: Side) -> tuple[Tensor, ...]:
    """Split N x T P x Q U x C into views of its U columns of tiles, N T x P Q x C each."""
    shape = len(x) * rows.tiles, rows.points * columns.points, columns.tiles, x.shape[-1]
    return x.view(shape).unbind(2)
