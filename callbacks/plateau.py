"""Keep the best weights and cut the learning rate when they stop getting better: one pair, one idea of 'better'."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from fastai.callback import tracker
from fastai.callback.core import Callback
from fastai.callback.schedule import ParamScheduler
from fastai.callback.tracker import SaveModelCallback, TrackerCallback
from fastai.torch_core import get_model, rank_distrib

from console import say
from errors import UserError
from ranks import rank0
from tensor_file import load_tensors, save_tensors

RESTORE = '; restore a copy of it, or train anew (train_fastai.py --config repeats a run)'


class SaveModel(SaveModelCallback):
    """fastai's SaveModelCallback that writes atomically and never loads what an earlier fit left behind."""

    def before_fit(self):
        """Forget what an earlier fit saved."""
        super().before_fit()
        self.saved = False

    @property
    def file(self) -> Path:
        """Where the best weights go."""
        return self.learn.path / self.learn.model_dir / f'{self.fname}.pth'

    def after_epoch(self):
        """Save where the monitor improved."""
        TrackerCallback.after_epoch(self)
        if self.new_best:
            self._save()

    def _save(self):
        rank0(save_tensors, get_model(self.model).state_dict(), self.file)
        self.saved = True

    def state_dict(self) -> dict:
        """For a checkpoint."""
        return {'best': self.best, 'saved': self.saved}

    def load_state_dict(self, state: dict):
        """From a checkpoint; UserError where the best weights that it counts on are gone: now, not after all epochs."""
        self.best, self.saved = state['best'], state['saved']
        if not self.saved or rank_distrib():
            return
        if not self.file.exists():
            raise UserError(f'{self.file} is gone, the best weights so far' + RESTORE)
        load_tensors(self.file, RESTORE)

    def after_fit(self):
        """Load the best weights; UserError where there are none, since the monitor never improved."""
        if not self.saved:
            lr = self.opt.hypers[-1]['lr']
            raise UserError(
                f'{self.monitor} never got better than {self.best}: no weights are kept. Try an lr below {lr:.2g}'
            )
        self.model.load_state_dict(rank0(load_tensors, self.file))


class ReduceLROnPlateau(tracker.ReduceLROnPlateau):
    """fastai's ReduceLROnPlateau that also cuts torch's optimisers, whose `OptimWrapper.hypers` are only copies."""

    def before_fit(self):
        """Refuse a schedule that would overwrite each cut with the next batch."""
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
            told = f'{self.monitor} has not improved for {self.patience} epochs'
            say(f'epoch {self.epoch + 1}: {told}, lr cut to {new[-1]:.3g}')

    def state_dict(self) -> dict:
        """For a checkpoint; the learning rate is the optimiser's."""
        return {'best': self.best, 'wait': self.wait}

    def load_state_dict(self, state: dict):
        """From a checkpoint."""
        self.best, self.wait = state['best'], state['wait']


def plateau_cbs(
    monitor: str = 'valid_loss',
    comp: Callable = np.less,
    min_delta: float = 0.0,
    patience: int = 4,
    factor: float = 5.0,
    fname: str = 'best',
) -> list[Callback]:
    """SaveModel and ReduceLROnPlateau that agree on what is better: `comp(monitor - min_delta, best)`.

    `patience` is in epochs, the learning rate is divided by `factor`, and the weights go to `fname` in the
    Learner's model folder.
    """
    better = {'monitor': monitor, 'comp': comp, 'min_delta': min_delta}
    return [SaveModel(fname=fname, **better), ReduceLROnPlateau(patience=patience, factor=factor, **better)]
