"""Cut the learning rate when the validation loss stops improving, beside SaveModel, which keeps the best weights."""

import numpy as np
from fastai.callback import tracker
from fastai.vision.all import Callback, ParamScheduler, TrackerCallback

from callbacks.save_model import SaveModel
from runtime.console import say
from runtime.errors import UserError


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
        return {'best': self.best, 'wait': self.wait}

    def load_state_dict(self, state: dict):
        self.best, self.wait = state['best'], state['wait']


def plateau_cbs(
    monitor='valid_loss', comp=np.less, min_delta=0.0, patience=4, factor=5.0, fname='best'
) -> list[Callback]:
    """SaveModel and ReduceLROnPlateau with the same test for an improvement: `comp(monitor - min_delta, best)`.

    After `patience` epochs without one, the learning rate is divided by `factor`. The best weights are saved as
    `fname` in the Learner's model folder.
    """
    better = {'monitor': monitor, 'comp': comp, 'min_delta': min_delta}
    return [SaveModel(fname=fname, **better), ReduceLROnPlateau(patience=patience, factor=factor, **better)]
