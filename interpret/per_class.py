"""Precision, recall and F1 of each class."""

import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from interpret.interpretation import GradCAMInterpretation


def per_class(interp: GradCAMInterpretation) -> pd.DataFrame:
    """One row per class, in the order of `interp.vocab`: class, precision, recall, f1 (fractions) and images.

    A score is 0 for a class without predictions or without images.
    """
    labels = range(len(interp.vocab))
    scores = precision_recall_fscore_support(interp.targs, interp.decoded, labels=labels, zero_division=0)
    columns = dict(zip(('precision', 'recall', 'f1', 'images'), scores, strict=True))
    return pd.DataFrame({'class': [str(name) for name in interp.vocab], **columns})
