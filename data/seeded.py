"""DataLoaders whose order and augmentation depend on (seed, epoch, image) alone."""

import random
import signal
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from fastai.data.core import TfmdDL
from fastai.torch_core import TensorCategory
from fastai.vision.core import TensorImage
from fastcore.basics import chunked
from torch import Tensor

from data.batch_at import batch_at
from data.pixels import Pixels
from data.transforms import AlbumentationsTransform, BatchedTransform


class SeededDL(TfmdDL):
    """A TfmdDL whose order and augmentation depend on (seed, epoch, image) alone, not on workers or on the past.

    `epoch` is set by the training loop (`callbacks.epoch.EpochToLoader`). Outside of it, as in `show_batch`, it is
    None and each iteration draws anew. `skip` batches at its start are left out, where training goes on within an
    epoch; its length is that of the whole epoch. Iterating draws nothing from the global random states.
    """

    epoch: int | None = None
    skip: int = 0

    def __init__(self, dataset, seed: int = 42, **kwargs):
        self.seed, self.stream, self.seen = seed, 0, Counter()
        super().__init__(dataset, **kwargs)
        self.rng = random.Random(seed)
        self.fake_l.generator = torch.Generator()  # torch's iterators draw their workers' seed from it

    def new(self, dataset=None, cls=None, **kwargs):
        """As TfmdDL's, with the same seed. Of the same dataset each new one draws differently: `tta` averages them."""
        dl = super().new(dataset, cls, **{'seed': self.seed, **kwargs})
        if dataset is None:
            dl.rng = random.Random(self.rng.getrandbits(32))
        return dl

    def show_batch(self, b=None, max_n: int = 9, ctxs=None, show: bool = True, unique: bool = False, **kwargs):
        """As TfmdDL's, which for `unique` repeats the first item forever, and goes on with that after an error."""
        if unique and b is None:
            b = batch_at(self, [0] * min(max_n, self.bs or 1))
        return super().show_batch(b, max_n, ctxs, show, **kwargs)

    def before_iter(self):
        """Settle, before any worker starts, what this iteration draws from."""
        super().before_iter()
        if self.epoch is not None:
            self.rng = self.epoch_rng(self.epoch)
        self.stream, self.seen = self.rng.getrandbits(32), Counter()

    def epoch_rng(self, epoch: int) -> random.Random:
        """What an epoch's order and draws come from."""
        return random.Random(f'{self.seed}, {epoch}')

    def get_idxs(self) -> list[int]:
        """As TfmdDL's, without those of the first `skip` batches."""
        idxs = super().get_idxs()
        return idxs[self.skip * self.bs :] if self.skip else idxs

    def wif(self):
        """Let the process that trains decide what a Ctrl-C or SIGTERM to all of its group means for this worker.

        It usually wants the batches that it has asked for. A worker that nobody ends ends itself a minute later.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, 'alarm'):  # elsewhere no signal reaches a whole group
            signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(60))

    def times_seen(self, s: int | None) -> int:
        """How often item `s` came before in this iteration, as where a sampler repeats it: each worker for itself."""
        self.seen[s] += 1
        return self.seen[s] - 1


class ImageDL(SeededDL):
    """One that augments image by image, with the `AlbumentationsTransform` among its item transforms."""

    def do_item(self, s):
        """Item `s` with draws of its own."""
        for tfm in self.after_item.fs:
            if isinstance(tfm, AlbumentationsTransform):
                tfm.set_draws((self.seed, self.stream, s or 0, self.times_seen(s)))
        return super().do_item(s)


class BatchedDL(SeededDL):
    """One that augments whole batches, with the `BatchedTransform` among its batch transforms.

    Before that a batch has a third part, the images' rows in the table of draws of this iteration. With `pixels` and
    `labels` (class indices), those of the items of `dataset` in their order, whole batches are taken from there,
    without any work for each item. With `alternating_flip` every second epoch flips just the images that the one
    before didn't, so that two epochs have seen both: Jordan 2024, arXiv 2404.00498, 3.6.
    """

    at_once = 2048  # images on a GPU, where a batch takes the host about 1 ms, whatever its size

    def __init__(
        self,
        dataset,
        pixels: Pixels | None = None,
        labels: Tensor | None = None,
        alternating_flip: bool = False,
        **kwargs,
    ):
        self.pixels, self.labels, self.alternating_flip, self.tables = pixels, labels, alternating_flip, {}
        super().__init__(dataset, **kwargs)
        self.after_batch.split_idx = getattr(dataset, 'split_idx', None)  # before the first iteration, too

    def new(self, dataset=None, cls=None, **kwargs):
        """As SeededDL's; another dataset has other pixels."""
        mine = {'pixels': self.pixels, 'labels': self.labels} if dataset is None else {}
        return super().new(dataset, cls, **{**mine, 'alternating_flip': self.alternating_flip, **kwargs})

    @property
    def ahead(self) -> int:
        """How many batches are made at once, from `pixels` and by one process, before they are split."""
        several = self.bs and self.pixels is not None and not self.fake_l.num_workers
        on_gpu = self.device is not None and self.device.type == 'cuda'
        return max(1, self.at_once // self.bs) if several and on_gpu else 1

    def __iter__(self) -> Iterator[tuple]:
        """As TfmdDL's, batch by batch."""
        for b in super().__iter__():
            yield from zip(*(o.split(self.bs) for o in b), strict=True) if self.ahead > 1 else [b]

    def before_iter(self):
        """Forget the draws of the iteration before."""
        super().before_iter()
        self.tables = {}

    def draws(self, idxs: list[int]) -> Tensor:
        """The rows of the items `idxs`: int64, N x columns. An item that came before has one in another table."""
        if len({*idxs}) == len(idxs) and self.seen.keys().isdisjoint(idxs):
            self.seen.update(idxs)
            return torch.from_numpy(self._table(0)[idxs])
        return torch.from_numpy(np.stack([self._table(self.times_seen(i))[i] for i in idxs]))

    def _table(self, time: int) -> np.ndarray:
        """What is drawn for each item when it comes for the `time`-th time."""
        if time not in self.tables:
            (tfm,) = (tfm for tfm in self.after_batch.fs if isinstance(tfm, BatchedTransform))
            compose, n = tfm.compose(self.after_batch.split_idx), len(self.dataset)
            self.tables[time] = compose.draw(np.random.default_rng((self.seed, self.stream, time)), n)
            if self.alternating_flip and (self.epoch or 0) % 2:
                stream = self.epoch_rng(self.epoch - 1).getrandbits(32)
                before = compose.draw(np.random.default_rng((self.seed, stream, time)), n)
                self.tables[time][:, compose.flips()] = 1 - before[:, compose.flips()]
        return self.tables[time]

    def do_item(self, s):
        """Item `s` as it is, and its draws."""
        item = super().do_item(s)
        return (*item, self.draws([s or 0])[0])

    def create_batches(self, samps: Iterable[int]) -> Iterator[tuple]:
        """Batches of the items `samps`: their pixels as uint8, N x 3 x H x W, their labels and their draws."""
        if self.pixels is None or self.bs is None:  # without a batch size, item by item
            yield from super().create_batches(samps)
            return
        for idxs in chunked(samps, self.bs * self.ahead):
            if self.drop_last:
                del idxs[len(idxs) // self.bs * self.bs :]
            if not idxs:
                return
            x, y = TensorImage(torch.from_numpy(self.pixels[idxs])), TensorCategory(self.labels[idxs])
            yield x, y, self.draws(idxs)
