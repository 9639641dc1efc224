"""Test-time augmentation."""

from fastai.vision.all import Callback, MixedPrecision

from models.classifier import mean_over_views


class MeanOverViews(Callback):
    """In validation and prediction, average the model's output over views of each image: `mean_over_views`."""

    order = MixedPrecision.order + 1  # after it has converted the prediction to float32

    def __init__(self, flip: bool, shift: bool):
        self.flip, self.shift = flip, shift

    def after_pred(self):
        if not self.training:
            self.learn.pred = mean_over_views(self.model, self.x, self.pred, self.flip, self.shift)
