"""The bars of a Learner."""

from collections.abc import Sequence

from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback

from bars import captioned, end, progress


class Progress(ProgressCallback):
    """fastai's bars and table, whose epochs here count from 1 in both, without a bar for a loader without batches.

    A learning rate sweep has the bar of `SweepBar` instead.
    """

    def __call__(self, event_name: str):
        """Do nothing in a sweep, whose epochs are no training."""
        if not hasattr(self.learn, 'lr_finder'):
            super().__call__(event_name)

    def _launch_pbar(self):
        # fastprogress warns "Your generator is empty" of a loader without batches
        self.pbar = captioned(self.dl, 'predicting', getattr(self, 'mbar', None)) if len(self.dl) else None
        if self.pbar:
            self.pbar.update(0)

    def after_train(self):
        """End the bar, if there is one."""
        if self.pbar:
            end(self.pbar)

    def after_validate(self):
        """End the bar, if there is one."""
        self.after_train()

    def _write_stats(self, log: Sequence):
        epoch, *values = log
        super()._write_stats([epoch + 1 if isinstance(epoch, int) else epoch, *values])


class SweepBar(Callback):
    """One bar over all steps of a learning rate sweep, fastai's `lr_find`; in a training it does nothing."""

    _stateattrs = ('bar',)  # which can't be pickled

    def before_fit(self):
        """Begin, in a sweep."""
        finder = getattr(self.learn, 'lr_finder', None)
        self.bar = progress(range(finder.num_it if finder else 0), 'learning rate sweep')
        next(self.bar, None)

    def after_batch(self):
        """One step further."""
        next(self.bar, None)

    def after_fit(self):
        """End it, also where the loss diverged."""
        self.bar.close()
