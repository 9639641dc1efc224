"""Progress bars of a Learner."""

from collections.abc import Sequence

from fastai.vision.all import Callback, ProgressCallback

from runtime.progress import captioned, end, progress


class Progress(ProgressCallback):
    """fastai's bars and table, with epochs counted from 1 and no bar for a loader without batches."""

    def __call__(self, event_name: str):
        if not hasattr(self.learn, 'lr_finder'):
            super().__call__(event_name)

    def _launch_pbar(self):
        # fastprogress warns "Your generator is empty" of a loader without batches
        self.pbar = captioned(self.dl, 'predicting', getattr(self, 'mbar', None)) if len(self.dl) else None
        if self.pbar:
            self.pbar.update(0)

    def after_train(self):
        if self.pbar:
            end(self.pbar)

    def after_validate(self):
        self.after_train()

    def _write_stats(self, log: Sequence):
        epoch, *values = log
        super()._write_stats([epoch + 1 if isinstance(epoch, int) else epoch, *values])


class SweepBar(Callback):
    """One bar over all steps of a learning rate sweep (fastai's `lr_find`); nothing outside of a sweep."""

    _stateattrs = ('bar',)  # a bar can't be pickled

    def before_fit(self):
        finder = getattr(self.learn, 'lr_finder', None)
        self.bar = progress(range(finder.num_it if finder else 0), 'learning rate sweep')
        next(self.bar, None)

    def after_batch(self):
        next(self.bar, None)

    def after_fit(self):
        self.bar.close()
