"""More than one look at an image that is to be judged."""

import torch.nn.functional as F
from fastai.callback.core import Callback
from torch import Tensor, nn


class MeanOverViews(Callback):
    """Outside of training, the model's output is what `mean_over_views` makes of it."""

    def __init__(self, flip: bool, shift: bool):
        self.flip, self.shift = flip, shift

    def after_pred(self):
        """Look again, the model in the mode that it is in."""
        if not self.training:
            self.learn.pred = mean_over_views(self.model, self.x, self.pred, self.flip, self.shift)


def mean_over_views(model: nn.Module, x: Tensor, pred: Tensor, flip: bool, shift: bool) -> Tensor:
    """The mean of `pred`, the model's output for the images `x` (N x C x H x W), and of that for their mirror images.

    Mirrored only with `flip`. With `shift` half of the weight is that of the same moved by a pixel, up and left and
    down and right: Jordan 2024, arXiv 2404.00498, section 3.6.
    """

    def looks(x: Tensor, pred: Tensor) -> Tensor:
        return (pred + model(x.flip(3))) / 2 if flip else pred

    if not shift:
        return looks(x, pred)
    h, w = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), 'reflect')
    moved = [looks(v, model(v)) for v in (padded[..., :h, :w], padded[..., 2:, 2:])]
    return (looks(x, pred) + sum(moved) / 2) / 2
