import torch
import torch.nn.functional as F
from fastai.callback.core import Callback

from callbacks.small_first import SmallFirst


class Seen(Callback):
    """Note what the model is given."""

    order = SmallFirst.order + 1

    def before_fit(self):
        self.sides, self.batches = {True: [], False: []}, []

    def before_batch(self):
        self.sides[self.training].append(tuple(self.x.shape[2:]))
        self.batches.append(self.x)


def test_sizes_follow_each_other_in_equal_parts_and_validation_sees_all_pixels(learner):
    learn, seen = learner(), Seen()
    learn.fit(3, 0.01, cbs=[SmallFirst([0.5, 0.75, 1.0]), seen])  # 3 epochs of 4 batches of 16x16
    assert seen.sides[True] == 4 * [(8, 8)] + 4 * [(12, 12)] + 4 * [(16, 16)]
    assert set(seen.sides[False]) == {(16, 16)}


def test_parts_need_not_be_whole_epochs(learner):
    learn, seen = learner(), Seen()
    learn.fit(1, 0.01, cbs=[SmallFirst([0.5, 1.0]), seen])
    assert seen.sides[True] == 2 * [(8, 8)] + 2 * [(16, 16)]


def test_a_half_is_close_to_the_mean_of_four_pixels(learner):
    learn, seen = learner(), Seen()
    big = torch.randn(1, 3, 16, 16)

    class Give(Callback):
        order = SmallFirst.order - 1

        def before_batch(self):
            self.learn.xb = (big.expand(len(self.x), -1, -1, -1),)

    learn.fit(1, 0.01, cbs=[Give(), SmallFirst([0.5]), seen])
    # the antialiased triangle over 4 pixels has the weights 1, 3, 3, 1 of 8 inside the image
    w = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    expected = F.conv2d(big.view(3, 1, 16, 16), torch.outer(w, w)[None, None], stride=2, padding=1).view(3, 8, 8)
    torch.testing.assert_close(seen.batches[0][0, :, 1:-1, 1:-1].as_subclass(torch.Tensor), expected[:, 1:-1, 1:-1])
