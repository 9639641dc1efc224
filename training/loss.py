"""The loss of a classifier."""

from fastai.losses import CrossEntropyLossFlat
from torch import Tensor, tensor
from torch.nn.functional import cross_entropy


class CrossEntropy(CrossEntropyLossFlat):
    """fastai's CrossEntropyLossFlat without flattening: `pred` N x classes, `targ` N class indices.

    fastai's wraps both in a subclass of Tensor, which then runs Python at each operation on the loss.

    With a `weight` for each class the mean is over the N images. torch divides by the sum of their weights; then the
    mean of several batches, or processes, would depend on which images are together.
    """

    def __call__(self, pred: Tensor, targ: Tensor) -> Tensor:
        func = self.func
        if func.weight is None or func.reduction != 'mean':
            return func(pred, targ)
        return cross_entropy(pred, targ, func.weight, reduction='none', label_smoothing=func.label_smoothing).mean()


def class_weights(counts: dict[str, int]) -> Tensor:
    """A weight for each class, inverse to its number of training images, 1 in the mean over the images.

    The formula of scikit-learn's `compute_class_weight('balanced')`.
    """
    n = tensor([*counts.values()]).float()
    return n.sum() / (len(n) * n)
