"""The end of a training run that diverged."""

from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Recorder
from torch import isfinite

from console import say


class StopOnNaN(Callback):
    """Stop training at the first loss that is NaN or infinite, and say where; fastai's own stops without a word."""

    order = Recorder.order + 1  # whose loss is that of all processes, which have to stop together

    def after_batch(self):
        """Look at the batch's loss."""
        if self.training and not isfinite(self.smooth_loss):
            lr = self.opt.hypers[-1]['lr']
            where = f'epoch {self.epoch + 1}, batch {self.iter + 1}, lr {lr:.3g}'
            say(f'the loss is {self.smooth_loss.item()} at {where}: training stops')
            raise CancelFitException
