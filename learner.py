"""A fastai Learner by a recipe, and its training."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastcore.basics import noop
from torch import Tensor, nn

from allocator import keep_freed_memory
from architectures import get_model
from bars import shows_bars
from callbacks.checkpoint import Checkpoint, load_checkpoint
from callbacks.epoch import EpochToLoader
from callbacks.eta import ETA
from callbacks.history import History
from callbacks.last import SaveLast
from callbacks.lines import EpochLines
from callbacks.lookahead import Lookahead
from callbacks.nan import StopOnNaN
from callbacks.plateau import plateau_cbs
from callbacks.small_first import SmallFirst
from callbacks.triangle import Triangle
from callbacks.views import MeanOverViews
from compiled import compiled
from data.unseen import refuse_to_train
from interrupts import deferred_interrupts
from models import SpeedNet
from optimiser import Muon
from ranks import rank0, shared_training
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


def get_learner(
    dls: DataLoaders, recipe: Recipe | None = None, path: str | Path = '.', initialise: bool = True
) -> Learner:
    """A Learner for `dls` by `recipe` (default: theirs), kept as `learn.recipe`; `path` is its run folder.

    Mixed precision on a GPU (bf16 where it has it), channels_last everywhere. Without `initialise` nothing is loaded or
    computed that other weights are to replace: neither pretrained ones nor a whitening layer. The rest is as in
    `get_model`.
    """
    recipe = recipe or dls.recipe
    model, scales = get_model(recipe, len(dls.vocab), dls.size, initialise), recipe.lr_scales.values()
    if isinstance(model, SpeedNet) and initialise:
        model.whiten(_some(dls))
    learn = ResumableLearner(
        dls,
        model,
        loss_func=CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing),
        # fastai's own SGD knows no Nesterov momentum; torch's `weight_decay` is the true L2
        opt_func=partial(
            OptimWrapper, opt=Muon if recipe.muon else torch.optim.SGD, momentum=recipe.mom, nesterov=recipe.nesterov
        ),
        splitter=partial(_groups, recipe=recipe),
        wd=[recipe.wd / scale for scale in scales],
        wd_bn_bias=True,
        train_bn=False,  # or fastai marks what isn't trained as well, which torch's optimisers can't save
        metrics=accuracy,
        cbs=[EpochToLoader(), ChannelsLast()],
        path=path,
    )
    learn.recipe = recipe
    learn.recorder.train_metrics = True
    if recipe.views:
        learn.add_cb(MeanOverViews(**recipe.views))
    if dls.device.type == 'cuda':
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        learn.add_cb(MixedPrecision(AMPMode.BF16 if bf16 else AMPMode.FP16))
    if not shows_bars():
        learn.remove_cb(ProgressCallback).logger = noop  # EpochLines prints instead
    return learn


def _groups(model: nn.Module, recipe: Recipe) -> list[list[nn.Parameter]]:
    """The parameters that are trained, a list for each of `Recipe.lr_scales`: `biases` are BatchNorm's."""
    norms = {m.bias for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    groups = {name: [] for name in recipe.lr_scales}
    for p in model.parameters():
        if p.requires_grad:
            name = 'biases' if p in norms else 'filters' if p.ndim == 4 else 'rest'
            groups.get(name, groups['rest']).append(p)
    return list(groups.values())


def _some(dls: DataLoaders) -> Tensor:
    """About 2,000 training images of all classes as validation would see them, N x 3 x H x W; fewer large ones."""
    items, (h, w) = dls.train.dataset.items, dls.size
    n = min(2000, max(10, 2_500_000 // (h * w)))  # 2,000 of 224x224 would take 10 GiB as patches
    dl = dls.test_dl(items[:: -(-len(items) // n)], num_workers=0)
    return torch.cat([x.cpu().as_subclass(Tensor) for (x,) in dl])


def fit(
    learn: Learner,
    epochs: int | None = None,
    lr: float | None = None,
    checkpoint_minutes: float = 5.0,
    resume: bool = False,
    cbs: Sequence[Callback] = (),
    compile: bool = False,
) -> pd.DataFrame:
    """Train by the Learner's recipe, keep the best weights, and return the history, one row an epoch.

    The learning rate starts at `lr` (default: the recipe's) and is cut on plateaus, or follows the recipe's schedule up
    to `lr` and down. Where no images are held out the last weights are the best. Writes `history.csv` and
    `models/best.pth` in `learn.path`, and a checkpoint there each epoch and every `checkpoint_minutes` within one:
    `resume` goes on from it to the same end, bit for bit, as if nothing had stopped it. The first Ctrl-C stops after
    the batch with a checkpoint written, the second at once. Raises UserError where there are no training images, and
    where no epoch improved on nothing, as after a loss of NaN. `cbs` are called besides. `compile` trains by the
    code of `torch.compile`.
    """
    refuse_to_train(learn.dls)
    keep_freed_memory()
    recipe, models = learn.recipe, learn.path / learn.model_dir
    history = History(learn.path / 'history.csv')
    epochs, lr = recipe.epochs if epochs is None else epochs, recipe.lr if lr is None else lr
    lrs = [lr * scale for scale in recipe.lr_scales.values()]
    save, cut = plateau_cbs(patience=recipe.patience, factor=recipe.factor)
    cbs = [
        *cbs,
        save if len(learn.dls.valid.dataset) else SaveLast(fname=save.fname),
        cut if recipe.schedule == 'plateau' else Triangle(lrs),
        StopOnNaN(), history, ETA(recipe.sizes),
    ]  # fmt: skip
    if recipe.lookahead:
        cbs.append(Lookahead())
    if min(recipe.sizes) < 1:
        cbs.append(SmallFirst(recipe.sizes))
    if not shows_bars():
        cbs.append(EpochLines())
    with deferred_interrupts() as stop:
        state = rank0(load_checkpoint, models) if resume else None
        checkpoint = Checkpoint(models, checkpoint_minutes, stop, state)
        try:
            with shared_training(learn), compiled(learn.model) if compile else nullcontext():
                learn.fit(epochs, lrs, cbs=[*cbs, checkpoint])
        finally:
            learn.first_epoch, learn.dls.train.skip, learn.dls.train.epoch = 0, 0, None
    return history.table
