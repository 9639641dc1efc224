"""Time Winograd convolutions against PyTorch's own on the CPU: `python benchmarks/winograd.py`.

First single convolutions, forward and backward (in brackets if `winograd_convolutions` keeps PyTorch's), then whole
training steps. Both run by turns on the same noise. Prints two Markdown tables of medians.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from fastcore.script import call_parse
from torch import nn

from models.resnet import cifar_resnet18
from models.speednet import SPEEDNETS, SpeedNet
from models.winograd.convolution import CHANNELS, PIXELS, SIDE, winograd, winograd_convolutions
from training.memory import keep_freed_memory

# images, channels in and out, pixels a side; a line each: ResNet-18 at 32 pixels, at 224 pixels, SpeedNet, others
CONVOLUTIONS = (
    *((128, 64, 64, 32), (128, 128, 128, 16), (128, 256, 256, 8), (128, 512, 512, 4)),
    *((16, 64, 64, 56), (16, 128, 128, 28), (16, 256, 256, 14), (16, 512, 512, 7)),
    *((256, 24, 64, 31), (256, 64, 320, 15), (256, 320, 384, 7), (256, 384, 384, 3)),
    *((128, 16, 16, 32), (128, 32, 32, 16), (128, 48, 48, 16), (16, 128, 128, 56)),
)
STEPS = (
    *(
        (name, partial(SpeedNet, widths=widths), 256, side)
        for name, widths in SPEEDNETS.items()
        for side in (20, 24, 32)
    ),
    ('resnet18', cifar_resnet18, 128, 32),
)


def medians(rounds: int, *ways: Callable[[], None]) -> list[float]:
    """Median milliseconds of each of `ways`, run by turns; the first round doesn't count."""
    times = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, spent in zip(ways, times, strict=True):
            start = perf_counter()
            way()
            spent.append(1000 * (perf_counter() - start))
    return [median(spent[1:]) for spent in times]


def convolution(n: int, c: int, k: int, side: int) -> list[Callable[[], None]]:
    """Functions that run PyTorch's convolution and ours, forward and backward."""
    shapes = (n, c, side, side), (k, c, 3, 3), (n, k, side, side)
    x, weight, grad = (torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_() for shape in shapes)
    ways = partial(F.conv2d, padding=1), winograd
    return [lambda way=way: torch.autograd.grad(way(x, weight), (x, weight), grad) for way in ways]


def step(make: Callable[[], nn.Module], bs: int, size: int) -> list[Callable[[], None]]:
    """Functions that run a training step with PyTorch's convolutions and with ours."""
    x, y = torch.randn(bs, 3, size, size).to(memory_format=torch.channels_last), torch.randint(0, 10, (bs,))

    model = make().to(memory_format=torch.channels_last)
    opt = torch.optim.SGD(model.parameters(), 1e-3, 0.9, nesterov=True)

    def one(context):
        with context(model):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()

    return [partial(one, context) for context in (nullcontext, winograd_convolutions)]


@call_parse
def main(
    rounds: int = 5,  # timed, after one warm-up round
):
    """Time convolutions and training steps with PyTorch's convolutions and with Winograd's."""
    keep_freed_memory()
    torch.manual_seed(0)
    print('| images | channels | pixels a side | PyTorch, ms | Winograd, ms | ratio |\n|--:|--:|--:|--:|--:|--:|')
    for n, c, k, side in CONVOLUTIONS:
        theirs, ours = medians(rounds, *convolution(n, c, k, side))
        used = min(c, k) >= CHANNELS and side <= SIDE and n * side**2 >= PIXELS
        ratio = f'{theirs / ours:.2f}x' if used else f'({theirs / ours:.2f}x)'
        print(f'| {n} | {c} to {k} | {side} | {theirs:.0f} | {ours:.0f} | {ratio} |', flush=True)
    print('\n| network | images | pixels a side | PyTorch, ms | Winograd, ms | ratio |\n|---|--:|--:|--:|--:|--:|')
    for name, make, bs, size in STEPS:
        theirs, ours = medians(rounds, *step(make, bs, size))
        print(f'| {name} | {bs} | {size} | {theirs:.0f} | {ours:.0f} | {theirs / ours:.2f}x |', flush=True)
    print(f'\ntorch {torch.__version__}, {torch.get_num_threads()} threads')
