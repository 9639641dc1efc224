"""DataLoaders whose order and augmentation depend on (seed, epoch, image) alone."""

import random
import signal
from collections import Counter

import torch
from fastai.vision.all import TfmdDL, to_device

from data.augment import AlbumentationsTransform


class SeededDL(TfmdDL):
    """A TfmdDL whose order and augmentation depend only on (seed, epoch, image), not on workers or earlier iterations.

    `callbacks.set_epoch.EpochToLoader` sets `epoch` in training. Elsewhere, as in `show_batch`, it is None and each
    iteration draws new random numbers. The first `skip` batches are left out, to resume within an epoch; the length
    still counts them. Iterating doesn't touch the global random states.
    """

    epoch: int | None = None
    skip: int = 0

    def __init__(self, dataset, seed: int = 42, **kwargs):
        self.seed, self.stream, self.seen = seed, 0, Counter()
        super().__init__(dataset, **kwargs)
        self.rng = random.Random(seed)
        self.fake_l.generator = torch.Generator()  # torch draws the workers' seed from it

    def new(self, dataset=None, cls=None, **kwargs):
        """Keep the seed. On the same dataset each new loader draws other random numbers, for `tta` to average."""
        dl = super().new(dataset, cls, **{'seed': self.seed, **kwargs})
        if dataset is None:
            dl.rng = random.Random(self.rng.getrandbits(32))
        return dl

    def show_batch(self, b=None, max_n: int = 9, ctxs=None, show: bool = True, unique: bool = False, **kwargs):
        """Repeat the first item if `unique`; TfmdDL would keep repeating it after an error."""
        if unique and b is None:
            b = batch_at(self, [0] * min(max_n, self.bs or 1))
        return super().show_batch(b, max_n, ctxs, show, **kwargs)

    def before_iter(self):
        """Choose this iteration's random stream before any worker starts."""
        super().before_iter()
        if self.epoch is not None:
            self.rng = self.epoch_rng(self.epoch)
        self.stream, self.seen = self.rng.getrandbits(32), Counter()

    def epoch_rng(self, epoch: int) -> random.Random:
        """Return the random generator of an epoch's order and augmentation."""
        return random.Random(f'{self.seed}, {epoch}')

    def get_idxs(self) -> list[int]:
        idxs = super().get_idxs()
        return idxs[self.skip * self.bs :] if self.skip else idxs

    def wif(self):
        """In a worker, ignore Ctrl-C and delay SIGTERM by a minute: training still wants the batches it asked for."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, 'alarm'):  # on other systems no signal reaches a whole process group
            signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(60))

    def times_seen(self, idxs: list[int]) -> list[int]:
        """Count earlier uses of each item in this iteration (a sampler may repeat it), in each worker separately."""
        if len({*idxs}) == len(idxs) and self.seen.keys().isdisjoint(idxs):
            self.seen.update(idxs)
            return [0] * len(idxs)
        times = []
        for i in idxs:
            times.append(self.seen[i])
            self.seen[i] += 1
        return times

    def give_key(self, s: int, time: int) -> AlbumentationsTransform | None:
        """Key the next draws of the `AlbumentationsTransform` among the item transforms, and return it.

        The draws are those of item `s` after `time` earlier uses in this iteration.
        """
        for tfm in self.after_item.fs:
            if isinstance(tfm, AlbumentationsTransform):
                tfm.key = self.seed, self.stream, s, time
                return tfm
        return None


class ImageDL(SeededDL):
    """A SeededDL that augments image by image, with the `AlbumentationsTransform` among its item transforms."""

    def do_item(self, s):
        self.give_key(s or 0, *self.times_seen([s]))
        return super().do_item(s)


def batch_at(dl: TfmdDL, idxs: list[int]) -> tuple:
    """Return the batch of items `idxs` after all transforms of `dl`, without workers or shuffling."""
    dl.before_iter()
    b = dl.do_batch([dl.do_item(i) for i in idxs])
    return dl.after_batch(b if dl.device is None else to_device(b, dl.device))
