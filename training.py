"""Training by a recipe, which can be stopped at any moment and goes on from there."""

from collections.abc import Sequence
from contextlib import nullcontext

import pandas as pd
from fastai.callback.core import Callback
from fastai.learner import Learner

from allocator import keep_freed_memory
from bars import shows_bars
from callbacks.checkpoint import Checkpoint, load_checkpoint
from callbacks.eta import ETA
from callbacks.history import History
from callbacks.last import SaveLast
from callbacks.lines import EpochLines
from callbacks.lookahead import Lookahead
from callbacks.nan import StopOnNaN
from callbacks.plateau import plateau_cbs
from callbacks.triangle import Triangle
from compiled import compiled
from data.unseen import refuse_to_train
from errors import UserError, printable
from finished import is_finished
from identity import identity, refuse_other_training
from interrupts import deferred_interrupts
from ranks import rank0, shared_training
from winograd import winograd_convolutions


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
    `resume` goes on from it to the same end, on a CPU bit for bit, as if nothing had stopped it; where there is none it
    begins at the start and says so. The first Ctrl-C stops after the batch with a checkpoint written, the second at
    once. Raises UserError where there are no training images, where the checkpoint belongs to another training or a
    finished run has none, and where no epoch improved on nothing, as after a loss of NaN. `cbs` are called besides.
    `compile` trains by the code of `torch.compile`.
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
        StopOnNaN(), history, ETA(),
    ]  # fmt: skip
    if recipe.lookahead:
        cbs.append(Lookahead())
    if not shows_bars():
        cbs.append(EpochLines())
    mine, state = identity(learn), rank0(load_checkpoint, models) if resume else None
    if state:
        refuse_other_training(state, learn, mine, models)
    elif resume and is_finished(learn.path):
        raise UserError(f'{learn.path} is finished, without a checkpoint to go on from: train in another folder')
    elif resume:
        print(f'no checkpoint in {printable(models)}: training begins at epoch 1')
    with deferred_interrupts() as stop:
        checkpoint = Checkpoint(models, checkpoint_minutes, stop, mine, state)
        try:
            fast = compiled(learn.model) if compile else nullcontext()
            with shared_training(learn), winograd_convolutions(learn.model), fast:
                learn.fit(epochs, lrs, cbs=[*cbs, checkpoint])
        finally:
            learn.first_epoch, learn.dls.train.skip, learn.dls.train.epoch = 0, 0, None
    return history.table
