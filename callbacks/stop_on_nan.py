"""Stop a training that diverged."""

from math import isfinite

from fastai.callback.core import Callback, CancelFitException

from callbacks.recorder import Recorder
from runtime.console import say


class StopOnNaN(Callback):
    """Stop training at the first NaN or infinite loss, and print where; fastai's TerminateOnNaN prints nothing.

    On a GPU the Recorder's loss is a few batches late, but not at the end of an epoch's training, before weights are
    saved.
    """

    order = Recorder.order + 1  # its loss is the mean over all processes, so that all stop together

    def after_batch(self):
        if self.training:
            self.after_train()

    def after_train(self):
        losses = self.recorder.losses  # none if all batches were trained before a resume
        if losses and not isfinite(losses[-1]):
            lr = self.opt.hypers[-1]['lr']
            where = f'epoch {self.epoch + 1}, batch {self.iter + 1}, lr {lr:.3g}'
            say(f'the loss is {losses[-1].item()} at {where}: training stops')
            raise CancelFitException
