"""Train by a recipe; a training can be stopped at any moment and resumed."""

from collections.abc import Sequence
from contextlib import nullcontext

import pandas as pd
from fastai.vision.all import Callback, Learner, risinstance

from callbacks.averaged_weights import AveragedWeights
from callbacks.checkpoint import Checkpoint, load_checkpoint
from callbacks.early_stop import EarlyStop
from callbacks.eta import ETA
from callbacks.fine_tune import FineTune
from callbacks.history import EpochLines, History
from callbacks.reduce_lr_on_plateau import plateau_cbs
from callbacks.save_model import SaveLast
from callbacks.slow_weights import Lookahead
from callbacks.stop_on_nan import StopOnNaN
from callbacks.test_time_views import MeanOverViews
from callbacks.triangular_lr import Triangle
from data.prediction import refuse_to_train
from runtime.errors import UserError, printable
from runtime.processes import on_rank0
from runtime.progress import shows_bars
from runtime.signals import deferred_interrupts
from training.compile import compiled
from training.distributed import shared_training
from training.finished import is_finished
from training.identity import identity, refuse_other_training
from training.memory import keep_freed_memory


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

    The learning rate starts at `lr` (default: the recipe's) and is cut on plateaus, or follows the recipe's schedule,
    which peaks at `lr`. Without validation images the last weights are kept. Writes `history.csv` and
    `models/best.pth` in `learn.path`, and checkpoints: within an epoch every `checkpoint_minutes`, after an epoch if
    the last one is 30 s old, and at the end. `resume` continues from the last, up to `epochs` in total and at its own
    rate: `lr` is ignored. On a CPU the result is bit for bit that of an uninterrupted training. Without a checkpoint,
    training begins at epoch 1 and a line says so. The first Ctrl-C saves a checkpoint after the batch and stops, the
    second stops at once. `cbs` are additional callbacks, `compile` trains with `torch.compile`.
    Raises UserError if there are no training images, if the checkpoint belongs to another training, if a finished run
    has no checkpoint to resume, or if no weights were saved, for example after a NaN loss in the first epoch.
    """
    refuse_to_train(learn.dls)
    keep_freed_memory()
    recipe, models = learn.recipe, learn.path / learn.model_dir
    history = History(learn.path / 'history.csv')
    epochs, lr = recipe.epochs if epochs is None else epochs, recipe.lr if lr is None else lr
    lrs = [lr * scale for scale in recipe.lr_scales.values()]
    save, cut = plateau_cbs(patience=recipe.patience, factor=recipe.factor)
    schedules = {'plateau': cut, 'triangle': Triangle(lrs), 'finetune': FineTune(lrs, recipe.frozen)}
    cbs = [
        *cbs,
        save if len(learn.dls.valid.dataset) else SaveLast(fname=save.fname),
        schedules[recipe.schedule],
        StopOnNaN(), history, ETA(),
    ]  # fmt: skip
    if recipe.lookahead:
        cbs.append(Lookahead())
    if recipe.early_stop:
        cbs.append(EarlyStop(patience=recipe.early_stop))
    if recipe.average:
        cbs.append(AveragedWeights(recipe.average))
    if not shows_bars():
        cbs.append(EpochLines())
    mine, state = identity(learn), on_rank0(load_checkpoint)(models) if resume else None
    if state:
        refuse_other_training(state, learn, mine, models)
    elif resume and on_rank0(is_finished)(learn.path):
        raise UserError(f'{learn.path} is finished, without a checkpoint to go on from: train in another folder')
    elif resume:
        print(f'no checkpoint in {printable(models)}: training begins at epoch 1')
    with deferred_interrupts() as stop:
        checkpoint = Checkpoint(models, checkpoint_minutes, stop, mine, state)
        try:
            fast = compiled(learn.model) if compile else nullcontext()
            one_view = learn.removed_cbs(learn.cbs.filter(risinstance(MeanOverViews)))  # six take six times as long
            with shared_training(learn), fast, one_view:
                learn.fit(epochs, lrs, cbs=[*cbs, checkpoint])
        finally:
            checkpoint.forget_place(learn)
    return history.table
