"""Measure what returning freed memory costs a training step with glibc: `python benchmarks/allocator.py`.

Each network trains on noise, by turns with glibc's thresholds as they adapt after the first large blocks, and with
those of `keep_freed_memory`. Prints a Markdown table of medians.
"""

import ctypes
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from fastcore.script import call_parse
from torch import nn

from models.resnet import cifar_resnet18
from models.speednet import SpeedNet
from training.memory import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory

CASES = ('speednet', SpeedNet, 256, 20), ('speednet', SpeedNet, 256, 24), ('speednet', SpeedNet, 256, 32)
CASES += (('resnet18', cifar_resnet18, 128, 32),)


def return_freed_memory() -> None:
    """Set the thresholds that glibc adapts to by default."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
        libc.malloc_trim(0)


@call_parse
def main(
    rounds: int = 6,  # per setting
    batches: int = 4,  # timed per round, after one warm-up batch
):
    """Time training steps with and without `keep_freed_memory`."""
    ways = {'returned': return_freed_memory, 'kept': keep_freed_memory}
    print('| network | image | freed memory returned, images/s | kept, images/s | ratio |\n|---|--:|--:|--:|--:|')
    for name, make, bs, size in CASES:
        torch.manual_seed(0)
        model = make().to(memory_format=torch.channels_last)
        opt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9, nesterov=True)
        x = torch.randn(bs, 3, size, size).to(memory_format=torch.channels_last)
        y = torch.randint(0, 10, (bs,))
        seconds = {way: [] for way in ways}
        for _ in range(rounds):
            for way, set_thresholds in ways.items():
                set_thresholds()
                for i in range(batches + 1):
                    start = perf_counter()
                    opt.zero_grad()
                    nn.functional.cross_entropy(model(x), y).backward()
                    opt.step()
                    if i:
                        seconds[way].append(perf_counter() - start)
        before, after = (bs / median(seconds[way]) for way in ways)
        print(f'| {name} | {size} | {before:.0f} | {after:.0f} | {after / before:.2f}x |', flush=True)
