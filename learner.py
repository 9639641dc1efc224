"""A fastai Learner by a recipe, and its training."""

from functools import partial
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import CancelEpochException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastcore.basics import noop

from bars import shows_bars
from callbacks.checkpoint import Checkpoint, load_checkpoint
from callbacks.epoch import EpochToLoader
from callbacks.eta import ETA
from callbacks.history import History
from callbacks.lines import EpochLines
from callbacks.nan import StopOnNaN
from callbacks.plateau import plateau_cbs
from interrupts import deferred_interrupts
from models import cifar_resnet18
from recipes import Recipe


class ResumableLearner(Learner):
    """fastai's Learner, whose next fit can begin at a later epoch, and within it after `dls.train.skip` batches.

    fastai's own `start_epoch` runs the callbacks of the epochs that it skips, where every tracker fails.
    """

    first_epoch = 0

    def _do_fit(self):
        if self.first_epoch and hasattr(self, 'progress') and hasattr(self.progress, 'mbar'):
            self.progress.mbar.update(0)  # which starts the bar's clock: fastprogress fails without
        for epoch in range(self.first_epoch, self.n_epoch):
            self.epoch = epoch
            self._with_events(self._do_epoch, 'epoch', CancelEpochException)

    def all_batches(self):
        """Train or evaluate on all batches that the loader gives, counted from the epoch's first."""
        self.n_iter = len(self.dl)
        for o in enumerate(self.dl, getattr(self.dl, 'skip', 0)):
            self.one_batch(*o)


def get_learner(dls: DataLoaders, recipe: Recipe | None = None, path: str | Path = '.') -> Learner:
    """A Learner for `dls` by `recipe` (default: theirs), kept as `learn.recipe`; `path` is its run folder.

    Mixed precision on a GPU (bf16 where it has it), channels_last everywhere.
    """
    recipe = recipe or dls.recipe
    learn = ResumableLearner(
        dls,
        cifar_resnet18(len(dls.vocab), recipe.last_stride, recipe.dropout),
        loss_func=CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing),
        # fastai's own SGD knows no Nesterov momentum; torch's `weight_decay` is the true L2
        opt_func=partial(OptimWrapper, opt=torch.optim.SGD, momentum=recipe.mom, nesterov=recipe.nesterov),
        wd=recipe.wd,
        metrics=accuracy,
        cbs=[EpochToLoader(), ChannelsLast()],
        path=path,
    )
    learn.recipe = recipe
    learn.recorder.train_metrics = True
    if dls.device.type == 'cuda':
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        learn.add_cb(MixedPrecision(AMPMode.BF16 if bf16 else AMPMode.FP16))
    if not shows_bars():
        learn.remove_cb(ProgressCallback).logger = noop  # EpochLines prints instead
    return learn


def fit(
    learn: Learner,
    epochs: int | None = None,
    lr: float | None = None,
    checkpoint_minutes: float = 5.0,
    resume: bool = False,
) -> pd.DataFrame:
    """Train by the Learner's recipe, keep the best weights, and return the history, one row an epoch.

    The learning rate starts at `lr` (default: the recipe's) and is cut on plateaus. Writes `history.csv` and
    `models/best.pth` in `learn.path`, and a checkpoint there each epoch and every `checkpoint_minutes` within one:
    `resume` goes on from it to the same end, bit for bit, as if nothing had stopped it. The first Ctrl-C stops after
    the batch with a checkpoint written, the second at once. Raises UserError where no epoch improved on nothing, as
    after a loss of NaN.
    """
    recipe, models = learn.recipe, learn.path / learn.model_dir
    history = History(learn.path / 'history.csv')
    cbs = [*plateau_cbs(patience=recipe.patience, factor=recipe.factor), StopOnNaN(), history, ETA()]
    if not shows_bars():
        cbs.append(EpochLines())
    epochs, lr = recipe.epochs if epochs is None else epochs, recipe.lr if lr is None else lr
    with deferred_interrupts() as stop:
        checkpoint = Checkpoint(models, checkpoint_minutes, stop, load_checkpoint(models) if resume else None)
        try:
            learn.fit(epochs, lr, cbs=[*cbs, checkpoint])
        finally:
            learn.first_epoch, learn.dls.train.skip, learn.dls.train.epoch = 0, 0, None
    return history.table
