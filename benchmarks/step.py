"""Time a training step of this project, a bare PyTorch loop and the course project's loop, in one run.

    python benchmarks/step.py
    python benchmarks/step.py --compile
    python benchmarks/step.py --compile --batches 300    # on a GPU

All train the same ResNet-18 on the same batches of 32x32 noise, by turns; the median over the rounds counts. The bare
loop does only the necessary work, in channels_last and, on a GPU, in bf16 like ours. The course project's loop uses
NCHW and float32, and reads loss and accuracy after each batch. Ours is `fit` with all its callbacks; on a CPU it keeps
freed memory (see allocator.py) and uses Winograd convolutions (see winograd.py). The bare loop runs with and without
these two: fastai's overhead is the time of ours compared with the bare loop that has both.
"""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastcore.script import call_parse
from PIL import Image

from benchmarks.allocator import return_freed_memory
from config.recipes import PLATEAU
from models.resnet import cifar_resnet18
from models.winograd.convolution import winograd_convolutions
from train_fastai import fit, get_dls, get_learner
from training.memory import keep_freed_memory


def now() -> float:
    """The time in seconds, after the GPU has finished its queued work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


class Clock(Callback):
    """Measure the seconds of an epoch's training, without validation and saving."""

    def before_train(self):
        """Start the clock."""
        self.start = now()

    def after_train(self):
        """Stop the clock."""
        self.seconds = now() - self.start


def ours(dls: DataLoaders, compiled: bool, path: str) -> Iterator[float]:
    """Yield the seconds of each epoch of `fit`."""
    learn, clock = get_learner(dls, path=path), Clock()
    learn.add_cb(clock)
    while True:
        fit(learn, 1, 0.01, compile=compiled)
        yield clock.seconds


def loop(dls: DataLoaders, compiled: bool, course: bool = False, as_ours: bool = False) -> Iterator[float]:
    """Yield the seconds of each epoch of a bare loop; `as_ours` keeps freed memory and uses Winograd convolutions."""
    layout = torch.contiguous_format if course else torch.channels_last
    model = cifar_resnet18(len(dls.vocab)).to(dls.device, memory_format=layout)
    bf16 = torch.autocast(dls.device.type, torch.bfloat16, enabled=dls.device.type == 'cuda' and not course)
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=not course)
    loss_func = torch.nn.CrossEntropyLoss(label_smoothing=0 if course else 0.1)
    if compiled:
        model.compile()
    while True:
        (keep_freed_memory if as_ours else return_freed_memory)()
        start = now()
        for x, y in dls.train:
            with winograd_convolutions(model) if as_ours else nullcontext():
                with bf16:
                    pred = model(x.as_subclass(torch.Tensor).contiguous(memory_format=layout))
                    loss = loss_func(pred, y.as_subclass(torch.Tensor))
                loss.backward()
            opt.step()
            opt.zero_grad()
            if course:
                loss.item(), (pred.argmax(1) == y).sum().item()
        yield now() - start


def write_noise(root: Path, n: int) -> Path:
    """Write two classes of noise: `n` training images in total and four test images."""
    rng = np.random.default_rng(0)
    for split, count in (('train', n // 2), ('test', 2)):
        for name in 'ab':
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{i:05}.png')
    return root


@call_parse
def main(
    compile: bool = False,  # also time ours and the bare loop with torch.compile
    bs: int = 128,  # images per batch
    batches: int = 4,  # per round
    rounds: int = 3,  # timed, after one warm-up round
):
    """Print the time of a training step of each loop, and its ratio to the other loops'."""
    with TemporaryDirectory() as tmp:
        valid = 4 / (bs * batches + 4)
        dls = get_dls(write_noise(Path(tmp) / 'images', bs * batches + 4), PLATEAU, bs, valid)
        steps = {'course project': loop(dls, False, course=True)}
        for compiled in (False, True)[: 1 + compile]:
            kind = ', compiled' if compiled else ''
            steps[f'bare loop{kind}'] = loop(dls, compiled)
            steps[f'bare loop, as ours{kind}'] = loop(dls, compiled, as_ours=True)
            steps[f'ours{kind}'] = ours(dls, compiled, tmp)
        times = {name: [] for name in steps}
        for i in range(1 + rounds):
            for name, step in steps.items():
                seconds = next(step)
                if i == 0:
                    print(f'{name}: first round {seconds:.1f} s', flush=True)
                else:
                    times[name].append(seconds / batches)
    course = median(times['course project'])
    print(f'\n{"":35} {"ms a batch":>10} {"images/s":>9} {"of the course":>14} {"of bare, as ours":>17}')
    for name, each in times.items():
        ms = median(each)
        bare = median(times['bare loop, as ours' + (', compiled' if 'compiled' in name else '')])
        print(f'{name:35} {1000 * ms:10.1f} {bs / ms:9.1f} {course / ms:13.2f}x {bare / ms:16.3f}x')
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f'{torch.get_num_threads()} threads'
    print(f'torch {torch.__version__}, {where}')
