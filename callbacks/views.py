"""More than one look at an image that is to be judged."""

from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision

from classifier import mean_over_views


class MeanOverViews(Callback):
    """Outside of training, the model's output is what `mean_over_views` makes of it."""

    order = MixedPrecision.order + 1  # after it has made the prediction float32

    def __init__(self, flip: bool, shift: bool):
        self.flip, self.shift = flip, shift

    def after_pred(self):
        """Look again, the model in the mode that it is in."""
        if not self.training:
            self.learn.pred = mean_over_views(self.model, self.x, self.pred, self.flip, self.shift)
