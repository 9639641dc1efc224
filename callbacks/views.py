"""More than one look at an image that is to be judged."""

import torch
import torch.nn.functional as F
from fastai.callback.core import Callback
from torch import Tensor


class MeanOverViews(Callback):
    """Outside of training, the model's output is its mean over the image and its mirror image (`flip`).

    With `shift` half of the weight is that of both moved by a pixel, up and left and down and right: Jordan 2024, arXiv
    2404.00498, section 3.6.
    """

    def __init__(self, flip: bool, shift: bool):
        self.flip, self.shift = flip, shift

    def after_pred(self):
        """Look again, the model in the mode that it is in."""
        if self.training:
            return
        pred = self._mirrored(self.x, self.pred)
        if self.shift:
            h, w = self.x.shape[2:]
            padded = F.pad(self.x, (1, 1, 1, 1), 'reflect')
            moved = [self._mirrored(v, self.model(v)) for v in (padded[..., :h, :w], padded[..., 2:, 2:])]
            pred = (pred + sum(moved) / 2) / 2
        self.learn.pred = pred

    def _mirrored(self, x: Tensor, pred: Tensor) -> Tensor:
        """The mean of `pred`, the output for `x`, and of that for its mirror image."""
        return (pred + self.model(torch.flip(x, (3,)))) / 2 if self.flip else pred
