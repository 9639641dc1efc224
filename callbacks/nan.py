"""The end of a training run that diverged."""

from fastai.callback.core import Callback, CancelFitException
from fastai.callback.tracker import TerminateOnNaNCallback
from torch import isfinite


class StopOnNaN(Callback):
    """Stop training at the first loss that is NaN or infinite, and say where; fastai's own stops without a word."""

    order = TerminateOnNaNCallback.order

    def after_batch(self):
        """Look at the batch's loss."""
        if self.training and not isfinite(self.loss):
            lr = self.opt.hypers[-1]['lr']
            print(
                f'the loss is {self.loss.item()} at epoch {self.epoch}, batch {self.iter}, lr {lr:.3g}: training stops'
            )
            raise CancelFitException
