"""Convolutions by Winograd's minimal filtering, which spares a CPU most of their multiplications.

Lavin & Gray 2015, arXiv 1509.09308. A 3x3 convolution multiplies 9 times for each pixel and pair of channels; on tiles
of m x m pixels it's ((m + 2) / m)^2 times, 1.65 for m = 7, and some sums. PyTorch's library for CPUs has it for a few
processors and only where it's asked for, which PyTorch doesn't (https://github.com/uxlfoundation/oneDNN/issues/491,
the first comment in https://github.com/uxlfoundation/oneDNN/pull/3139). On GPUs cuDNN has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from toom_cook import Side, sides, tiling

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


def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """N x C x H x W and K x C x 3 x 3 to N x K x H x W, what `conv2d` gives with padding 1, but for rounding."""
    x = x if type(x) is Tensor else x.as_subclass(Tensor)  # a call that would cut compiled code in two
    return _convolve(x.permute(0, 2, 3, 1), weight)[0].permute(0, 3, 1, 2)


# Operators of PyTorch's own kind, so that compiled code calls them where they are, instead of being cut there.
@torch.library.custom_op('train_fastai::winograd', mutates_args=())
def _convolve(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's A'[(G g G') * (B' d B)]A of N x H x W x C, each point's product one of matrices, over the channels.

    It is linear in the input d and in the filters g, so that their gradients go the same way, transposed. Those take
    what is returned besides: input and filters as transformed.
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
    """Of input and weight, each empty if it isn't asked for; `x` and `filters` as `_convolve` returns them."""
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
    ctx.set_materialize_grads(False)  # or what is kept gets gradients of zeros, as large as it is
    ctx.save_for_backward(*output[1:])


def _backward(ctx, grad, *_) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad
    grads = _gradients(grad, *ctx.saved_tensors, *needed)
    return tuple(g if need else None for g, need in zip(grads, needed, strict=True))


_convolve.register_autograd(_backward, setup_context=_keep)


def _both(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """N x H x W x C by matrices of I x H and J x W to N x I x J x C."""
    n, h, w, c = x.shape
    return columns @ (rows @ x.reshape(n, h, w * c)).view(n, len(rows), w, c)


def _products(x: Tensor, filters: Tensor, rows: Side, columns: Side) -> Tensor:
    """N x T P x Q U x C by filters of P Q x C x K to N x T P x Q U x K."""
    out = x.new_empty(*x.shape[:3], filters.shape[-1])
    # a column of tiles at a time, or all would have to be copied to lie in one matrix for each point
    for tile, result in zip(_tiles(x, rows, columns), _tiles(out, rows, columns), strict=True):
        torch.bmm(tile.transpose(0, 1), filters, out=result.transpose(0, 1))
    return out


def _tiles(x: Tensor, rows: Side, columns: Side) -> tuple[Tensor, ...]:
    """Views of N x T P x Q U x C for each of the U columns of tiles: N T x P Q x C."""
    shape = len(x) * rows.tiles, rows.points * columns.points, columns.tiles, x.shape[-1]
    return x.view(shape).unbind(2)
