"""The estimated duration of a run."""

from time import perf_counter

import torch
from fastai.vision.all import Callback, ProgressCallback

from config.recipes import FINETUNE, SPEEDRUN
from runtime.console import say

# hints on a slow CPU, by the name of the recipe
FASTER = {SPEEDRUN.name: '', FINETUNE.name: 'smaller images: --size 128; '}


class ETA(Callback):
    """After the first batches, print how long the rest of the run will take, and faster options on a slow CPU.

    In a learning rate sweep it counts the sweep, all epochs and the review; in a training, its epochs and the review.
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
        train, valid, *test = (len(dl) for dl in self.dls.loaders)
        sweep = getattr(self.learn, 'lr_finder', None)
        total_epochs, done = (self.learn.recipe.epochs, 0) if sweep else (self.n_epoch, self.epoch)
        left = total_epochs - done
        # a resumed training has done the first batches of its epoch
        more = sweep.num_it if sweep else self.train_iter - self.iter - 1
        # a forward pass takes about a third of a training step; nearly all of it if the body is frozen
        forward = seconds if self._is_frozen() else seconds / 3
        frozen = max(0, min(self.learn.recipe.frozen, total_epochs - 1) - done)
        trained = seconds * more + forward * (train * (3 * (left - frozen) + frozen) + left * valid)
        total = trained + self._review(forward, sum(test), trained)
        device = self.dls.device.type
        epochs = '1 epoch' if left == 1 else f'{left} epochs'
        what = 'a sweep, ' * bool(sweep) + f'{epochs} of {train} batches and the review'
        say(f'about {in_words(total)} for {what} on this {device.upper()}')
        if device == 'cpu' and total > 3600:
            faster = FASTER.get(self.learn.recipe.name, 'for a CPU: --recipe speedrun; ')
            print(f'  to try it in minutes: --data digits, or --fraction 0.1 --epochs 5; {faster}Colab has free GPUs')

    def _is_frozen(self) -> bool:
        return not all(p.requires_grad for group in self.opt.param_lists for p in group)

    def _review(self, forward: float, test: int, trained: float) -> float:
        """The seconds of the review, by those of a batch's forward pass, the test batches and the seconds before."""
        views = self.learn.recipe.views or {}
        views = (1 + views.get('flip', 0)) * (1 + 2 * views.get('shift', 0))
        # faithfulness.py has about 75 passes for each of 100 images, and a limit; plots and page take 10 s on one core
        return forward * test * views + min(forward * 100 * 75 / self.dls.train.bs, max(30, trained / 10)) + 10


def in_words(seconds: float) -> str:
    """Format `seconds` as seconds, minutes, or hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f'{max(round(seconds), 1)} s'
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
