"""Train on mixed images."""

from fastai.callback import mixup


class MixUp(mixup.MixUp):
    """fastai's MixUp (Zhang et al. 2017, arXiv 1710.09412), for a training that can be interrupted and resumed.

    It draws from torch's random state, which a checkpoint keeps. The Learner's loss, with its label smoothing and class
    weights, is mixed in the same proportions as the images.
    """

    def before_train(self):
        """Restore the Learner's own loss first, if an exception within an epoch left fastai's in its place."""
        if getattr(self.learn.loss_func, '__self__', None) is self:
            self.learn.loss_func = self.old_lf
        super().before_train()
