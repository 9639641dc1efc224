"""Stop a training that diverged."""

from fastai.vision.all import Callback, CancelFitException, Recorder
from torch import isfinite

from runtime.console import say


class StopOnNaN(Callback):
    """Stop training at the first NaN or infinite loss, and print where; fastai's TerminateOnNaN prints nothing."""

    order = Recorder.order + 1  # its loss is the mean over all processes, so that all stop together

    def after_batch(self):
        if self.training and not isfinite(self.smooth_loss):
            lr = self.opt.hypers[-1]['lr']
            where = f'epoch {self.epoch + 1}, batch {self.iter + 1}, lr {lr:.3g}'
            say(f'the loss is {self.smooth_loss.item()} at {where}: training stops')
            raise CancelFitException
