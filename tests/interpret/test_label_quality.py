import numpy as np
import torch

from interpret.label_quality import label_quality


def test_a_class_that_is_always_unsure_is_not_doubtful():
    # both labels have p = 0.4, which is usual for class 0 (threshold 0.4), but low for class 1 (0.65)
    preds, targs = torch.tensor([[0.4, 0.6], [0.4, 0.6], [0.1, 0.9], [0.6, 0.4]]), torch.tensor([0, 0, 1, 1])
    quality = label_quality(preds, targs)
    assert quality[0] > quality[3]
    # by hand: adjusted (0.65, 0.6) / 1.25 and (0.85, 0.4) / 1.25
    np.testing.assert_allclose(quality[[0, 3]], [(0.05 / 1.25 + 1) / 2, (-0.45 / 1.25 + 1) / 2], atol=1e-6)


def test_a_set_without_one_of_the_classes():
    quality = label_quality(torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]), torch.tensor([0, 1]))
    # thresholds 0.6, 0.8 and 1: adjusted (1, .5, .1) / 1.6 and (.5, 1, .1) / 1.6
    np.testing.assert_allclose(quality, [(0.5 / 1.6 + 1) / 2] * 2, atol=1e-6)
