"""The estimated duration of a run."""

from time import perf_counter

import torch
from fastai.vision.all import Callback, ProgressCallback

from config.recipes import SPEEDRUN
from runtime.console import say


class ETA(Callback):
    """After the first batches, print how long the whole run will take, and faster options on a slow CPU.

    The first `warm_up` batches aren't timed, since they include lazy initialisation; the next `timed` are. A short
    epoch times fewer batches, and an epoch with a single batch has no warm-up.
    """

    order = ProgressCallback.order + 1
    warm_up, timed = 1, 3

    def before_train(self):
        """Choose the batches to time, in the fit's first epoch."""
        if self.train_iter == 0:
            train = self.dls.train
            batches = len(train) - getattr(train, 'skip', 0)  # a resumed training may start within an epoch
            self.first, self.last = min(self.warm_up, batches - 1), min(self.warm_up + self.timed, batches)
            self.start = self._now()

    def after_batch(self):
        """Time the batches from `first` to `last` and extrapolate."""
        if not self.training:
            return
        if self.train_iter == self.first:
            self.start = self._now()
        elif self.train_iter == self.last:
            self._say((self._now() - self.start) / (self.last - self.first))

    def _now(self) -> float:
        if self.dls.device.type == 'cuda':
            torch.cuda.synchronize()  # the host only queues a batch
        return perf_counter()

    def _say(self, seconds: float):
        train, *others = (len(dl) for dl in self.dls.loaders)
        valid, test = others[0], sum(others[1:])
        left = self.n_epoch - self.epoch
        done = self.iter + 1 - self.train_iter  # batches of this epoch so far, with those before a resume
        # a forward pass costs about a third of a training step
        total = seconds * (left * train - done + (left * valid + test) / 3)
        device = self.dls.device.type
        epochs = '1 epoch' if left == 1 else f'{left} epochs'
        say(f'about {in_words(total)} for {epochs} of {train} batches on this {device.upper()}')
        if device == 'cpu' and total > 3600:
            faster = '' if self.learn.recipe.name == SPEEDRUN.name else 'for a CPU: --recipe speedrun; '
            print(f'  to try it in minutes: --data digits, or --fraction 0.1 --epochs 5; {faster}Colab has free GPUs')


def in_words(seconds: float) -> str:
    """Format `seconds` as seconds, minutes, or hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f'{max(round(seconds), 1)} s'
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
