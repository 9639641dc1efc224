"""Keep the best weights, and cut the learning rate on a plateau: two callbacks that share one monitor."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from fastai.callback import tracker
from fastai.callback.core import Callback
from fastai.callback.schedule import ParamScheduler
from fastai.callback.tracker import SaveModelCallback, TrackerCallback
from fastai.torch_core import get_model, rank_distrib

from runtime.console import say
from runtime.errors import UserError
from runtime.processes import on_rank0
from runtime.tensor_file import load_tensors, save_tensors

RESTORE = '; restore a copy of it, or train anew (train_fastai.py --config repeats a run)'


class SaveModel(SaveModelCallback):
    """fastai's SaveModelCallback, but it writes atomically and never loads an earlier fit's weights."""

    def before_fit(self):
        """Reset: nothing is saved yet in this fit."""
        super().before_fit()
        self.saved = False

    @property
    def file(self) -> Path:
        """The file of the best weights."""
        return self.learn.path / self.learn.model_dir / f'{self.fname}.pth'

    def after_epoch(self):
        """Save if the monitor improved."""
        TrackerCallback.after_epoch(self)
        if self.new_best:
            self._save()

    def _save(self):
        on_rank0(save_tensors)(get_model(self.model).state_dict(), self.file)
        self.saved = True

    def state_dict(self) -> dict:
        return {'best': self.best, 'saved': self.saved}

    def load_state_dict(self, state: dict):
        """Raise UserError now, rather than after the last epoch, if the best weights are missing or damaged."""
        self.best, self.saved = state['best'], state['saved']
        if not self.saved or rank_distrib():
            return
        if not self.file.exists():
            raise UserError(f'the best weights so far, {self.file}, are missing' + RESTORE)
        load_tensors(self.file, RESTORE)

    def after_fit(self):
        """Load the best weights; UserError if the monitor never improved, so that none were saved."""
        if not self.saved:
            lr = self.opt.hypers[-1]['lr']
            raise UserError(
                f'{self.monitor} never got better than {self.best}: no weights are kept. Try an lr below {lr:.2g}'
            )
        self.model.load_state_dict(on_rank0(load_tensors)(self.file))


class ReduceLROnPlateau(tracker.ReduceLROnPlateau):
    """fastai's ReduceLROnPlateau, which also works with torch's optimisers: their `OptimWrapper.hypers` are copies."""

    def before_fit(self):
        """Raise UserError if a schedule would overwrite each cut in the next batch."""
        super().before_fit()
        if self.run and any(isinstance(cb, ParamScheduler) for cb in self.learn.cbs):
            raise UserError('ReduceLROnPlateau has no effect under a schedule such as fit_one_cycle: use learn.fit')

    def after_epoch(self):
        """Divide every group's learning rate by `factor` after `patience` epochs without improvement."""
        TrackerCallback.after_epoch(self)
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait < self.patience:
            return
        self.wait = 0
        old = [h['lr'] for h in self.opt.hypers]
        new = [max(lr / self.factor, self.min_lr) for lr in old]
        if new != old:
            self.opt.set_hyper('lr', new)
            why = f'{self.monitor} has not improved for {self.patience} epochs'
            say(f'epoch {self.epoch + 1}: {why}, lr cut to {new[-1]:.3g}')

    def state_dict(self) -> dict:
        """For a checkpoint; the optimiser's state has the learning rate."""
        return {'best': self.best, 'wait': self.wait}

    def load_state_dict(self, state: dict):
        self.best, self.wait = state['best'], state['wait']


def plateau_cbs(
    monitor: str = 'valid_loss',
    comp: Callable = np.less,
    min_delta: float = 0.0,
    patience: int = 4,
    factor: float = 5.0,
    fname: str = 'best',
) -> list[Callback]:
    """SaveModel and ReduceLROnPlateau with the same test for an improvement: `comp(monitor - min_delta, best)`.

    After `patience` epochs without one, the learning rate is divided by `factor`. The best weights are saved as
    `fname` in the Learner's model folder.
    """
    better = {'monitor': monitor, 'comp': comp, 'min_delta': min_delta}
    return [SaveModel(fname=fname, **better), ReduceLROnPlateau(patience=patience, factor=factor, **better)]


class SaveLast(SaveModel):
    """SaveModel for a training without validation images: saves after each epoch, so the last weights are kept."""

    def after_epoch(self):
        self._save()
