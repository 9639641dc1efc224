"""The loss of a classifier."""

from fastai.losses import CrossEntropyLossFlat
from torch import Tensor, tensor
from torch.nn.functional import cross_entropy


class CrossEntropy(CrossEntropyLossFlat):
    """fastai's CrossEntropyLossFlat without flattening: `pred` N x classes, `targ` N class indices.

    fastai's wraps both in a subclass of Tensor, which then runs Python at each operation on the loss.

    With a `weight` for each class, the sum is divided by N. torch divides it by the sum of the weights; the mean over
    several batches or processes would then depend on which images share a batch.
    """

    def __call__(self, pred: Tensor, targ: Tensor) -> Tensor:
        func = self.func
        if func.weight is None or func.reduction != 'mean':
            return func(pred, targ)
        return cross_entropy(pred, targ, func.weight, reduction='none', label_smoothing=func.label_smoothing).mean()


def class_weights(counts: dict[str, int]) -> Tensor:
    """A weight for each class, inverse to its number of training images; the mean over all images is 1.

    The formula of scikit-learn's `compute_class_weight('balanced')`.
    """
    n = tensor([*counts.values()]).float()
    return n.sum() / (len(n) * n)
