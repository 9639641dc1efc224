"""Time the host's work per batch in `fit`, a plain fastai Learner and a bare loop, in one run.

    taskset -c 0 python benchmarks/host.py

A GPU waits for this work if its own takes less time. The network takes almost none: the mean of each channel and a
linear layer. All train on batches of our loader with the same optimiser on one CPU thread, by turns; the median over
the rounds counts. The bare loop does only the necessary work: forward pass, loss, backward pass, step. fastai's Learner
has its default callbacks without the progress bar, and the accuracy in training, too. Ours is `fit` with all its
callbacks. Only the training part of an epoch is timed, in CPU time, which depends less on other work on the machine.
"""

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastcore.script import call_parse
from torch import nn

from benchmarks.step import write_noise
from config.recipes import PLATEAU
from train_fastai import fit, get_dls, get_learner

SGD = partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4, nesterov=True)


class Clock(Callback):
    """Measure the CPU seconds of an epoch's training, without validation and saving."""

    order = -100

    def before_train(self):
        """Start the clock."""
        self.start = process_time()

    def after_train(self):
        """Stop the clock."""
        self.seconds = process_time() - self.start


def network(dls: DataLoaders) -> nn.Module:
    """The network: N x 3 x H x W to N x classes."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(dls.vocab)))


def loader(dls: DataLoaders) -> Iterator[float]:
    """Yield the seconds of each iteration over the loader alone."""
    while True:
        start = process_time()
        for _ in dls.train:
            pass
        yield process_time() - start


def bare(dls: DataLoaders) -> Iterator[float]:
    """Yield the seconds of each epoch of a bare loop."""
    model, loss_func = network(dls), nn.CrossEntropyLoss(label_smoothing=PLATEAU.label_smoothing)
    opt = SGD(model.parameters(), lr=0.01)
    while True:
        start = process_time()
        for x, y in dls.train:
            loss_func(model(x.as_subclass(torch.Tensor)), y.as_subclass(torch.Tensor)).backward()
            opt.step()
            opt.zero_grad()
        yield process_time() - start


def fastai(dls: DataLoaders) -> Iterator[float]:
    """Yield the seconds of each epoch of fastai's Learner."""
    loss_func, clock = CrossEntropyLossFlat(label_smoothing=PLATEAU.label_smoothing), Clock()
    learn = Learner(dls, network(dls), loss_func, partial(OptimWrapper, opt=SGD), metrics=accuracy, cbs=clock)
    learn.recorder.train_metrics = True
    while True:
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 0.01)
        yield clock.seconds


def ours(dls: DataLoaders, path: str) -> Iterator[float]:
    """Yield the seconds of each epoch of `fit`."""
    learn, clock = get_learner(dls, path=path), Clock()
    learn.model = network(dls)
    learn.add_cb(clock)
    while True:
        with redirect_stdout(StringIO()):
            fit(learn, 1, 0.01)
        yield clock.seconds


@call_parse
def main(
    bs: int = 32,  # images per batch
    batches: int = 64,  # per round
    rounds: int = 25,  # timed, after one warm-up round
):
    """Print the time of a batch in each loop, and its ratio to the bare loop's."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as tmp:
        valid = 4 / (bs * batches + 4)
        dls = get_dls(write_noise(Path(tmp) / 'images', bs * batches + 4), PLATEAU, bs, valid, num_workers=0)
        loops = {
            'the loader alone': loader(dls),
            'bare loop': bare(dls),
            "fastai's Learner": fastai(dls),
            'ours': ours(dls, tmp),
        }
        times = {name: [] for name in loops}
        for i in range(1 + rounds):
            for name, loop in loops.items():
                seconds = next(loop)
                if i:
                    times[name].append(1000 * seconds / batches)
    unit = median(times['bare loop'])
    print('| loop | ms a batch | of the bare loop |\n|---|--:|--:|')
    for name, each in times.items():
        print(f'| {name} | {median(each):.2f} | {median(each) / unit:.2f}x |')
    print(f'\nbatches of {bs} images, {rounds} rounds of {batches} batches, 1 thread, torch {torch.__version__}')
    print('target: ours takes at most 1.5 times as long as the bare loop')
