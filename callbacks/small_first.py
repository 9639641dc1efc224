"""Smaller images while they still teach enough."""

from collections.abc import Sequence

import torch.nn.functional as F
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision


class SmallFirst(Callback):
    """Train on images of each of `sizes`, fractions of height and width, in as many equal parts of the training.

    Half the height and width cost a quarter of the time. Validation sees whole images.
    Howard's DAWNBench entry, 2018: https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html
    """

    order = MixedPrecision.order - 1  # in the precision of the images

    def __init__(self, sizes: Sequence[float]):
        self.sizes = sizes

    def before_batch(self):
        """Shrink the batch, each pixel an average of those that it stands for."""
        done = (self.epoch + self.iter / self.n_iter) / self.n_epoch
        size = self.sizes[int(done * len(self.sizes))]
        if self.training and size < 1:
            small = [round(size * n) for n in self.x.shape[2:]]
            self.learn.xb = (F.interpolate(self.x, small, mode='bilinear', antialias=True), *self.xb[1:])
