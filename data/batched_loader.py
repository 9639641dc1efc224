"""Augment whole batches in the loader."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from fastai.vision.all import TensorCategory, TensorImage, chunked
from torch import Tensor

from data.augment import BatchedTransform
from data.pixel_cache import Pixels
from data.seeded_loader import SeededDL


class BatchedDL(SeededDL):
    """A SeededDL that augments whole batches, with the `BatchedTransform` among its batch transforms.

    A batch is (images, labels, random draws); the transform consumes the draws. `pixels` and `labels` (class indices)
    hold all items of `dataset` in order: whole batches are then read from them, without fastai's work per item. With
    `alternating_flip` every second epoch flips exactly the images that the epoch before didn't, so that two epochs show
    both versions: Jordan 2024, arXiv 2404.00498, 3.6.
    """

    at_once = 2048  # images to prepare at once on a GPU: a batch of any size takes the host about 1 ms

    def __init__(
        self, dataset, pixels: Pixels | None = None, labels: Tensor | None = None, alternating_flip=False, **kwargs
    ):
        self.pixels, self.labels, self.alternating_flip, self.tables = pixels, labels, alternating_flip, {}
        super().__init__(dataset, **kwargs)
        self.after_batch.split_idx = getattr(dataset, 'split_idx', None)  # also before the first iteration

    def new(self, dataset=None, cls=None, **kwargs):
        """Keep the pixels and labels for the same dataset only."""
        mine = {'pixels': self.pixels, 'labels': self.labels} if dataset is None else {}
        return super().new(dataset, cls, **{**mine, 'alternating_flip': self.alternating_flip, **kwargs})

    @property
    def ahead(self) -> int:
        """How many batches are made at once and then split: several on a GPU, from `pixels`, without workers."""
        several = self.bs and self.pixels is not None and not self.fake_l.num_workers
        on_gpu = self.device is not None and self.device.type == 'cuda'
        return max(1, self.at_once // self.bs) if several and on_gpu else 1

    def __iter__(self) -> Iterator[tuple]:
        """Split the batches that were made at once."""
        for b in super().__iter__():
            yield from zip(*(o.split(self.bs) for o in b), strict=True) if self.ahead > 1 else [b]

    def before_iter(self):
        super().before_iter()
        self.tables = {}

    def draws(self, idxs: list[int], times: list[int]) -> Tensor:
        """Return the draws of the items `idxs`: int64, N x columns. `times` is the result of `times_seen`."""
        if not any(times):
            return torch.from_numpy(self._table(0)[idxs])
        return torch.from_numpy(np.stack([self._table(time)[i] for i, time in zip(idxs, times, strict=True)]))

    def _table(self, time: int) -> np.ndarray:
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
        i, times = s or 0, self.times_seen([s or 0])
        self.give_key(i, *times)
        return (*super().do_item(s), self.draws([i], times)[0])

    def images(self, idxs: list[int], times: list[int]) -> Tensor:
        """Return the items `idxs` from `pixels`: uint8, N x 3 x H x W."""
        return torch.from_numpy(self.pixels[idxs])

    def create_batches(self, samps: Iterable[int]) -> Iterator[tuple]:
        """Yield batches of the items `samps`: pixels (uint8, N x 3 x H x W), labels and draws."""
        if self.pixels is None or self.bs is None:  # without a batch size, item by item
            yield from super().create_batches(samps)
            return
        for idxs in chunked(samps, self.bs * self.ahead):
            if self.drop_last:
                del idxs[len(idxs) // self.bs * self.bs :]
            if not idxs:
                return
            times = self.times_seen(idxs)
            x, y = TensorImage(self.images(idxs, times)), TensorCategory(self.labels[idxs])
            yield x, y, self.draws(idxs, times)
