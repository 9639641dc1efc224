"""Score labels to find doubtful ones."""

import torch
from torch import Tensor


def label_quality(preds: Tensor, targs: Tensor) -> Tensor:
    """Score the labels `targs` (N) by the probabilities `preds` (N x C), in [0, 1]; low is doubtful.

    The score is the normalised margin, adjusted by each class's mean self-confidence: a class that the model is always
    unsure of isn't doubtful as a whole. Kuan and Mueller, Model-agnostic label quality scoring, 2022, after Northcutt
    et al., Confident learning, 2021: https://arxiv.org/abs/1911.00068. A class without images gets the threshold 1.
    """
    labels = targs[:, None]
    own = preds.gather(1, labels).squeeze(1)
    thresholds = torch.ones(preds.shape[1]).scatter_reduce(0, targs, own, 'mean', include_self=False)
    adjusted = preds - thresholds + thresholds.max()
    adjusted /= adjusted.sum(1, keepdim=True)
    other = adjusted.scatter(1, labels, -torch.inf).amax(1)
    return (adjusted.gather(1, labels).squeeze(1) - other + 1) / 2
