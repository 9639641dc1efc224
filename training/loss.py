"""The loss of a classifier."""

from fastai.losses import CrossEntropyLossFlat
from torch import Tensor


class CrossEntropy(CrossEntropyLossFlat):
    """fastai's CrossEntropyLossFlat without flattening: `pred` N x classes, `targ` N class indices.

    fastai's wraps both in a subclass of Tensor, which then runs Python at each operation on the loss.
    """

    def __call__(self, pred: Tensor, targ: Tensor) -> Tensor:
        return self.func(pred, targ)
