"""The epoch, for the loader's draws."""

from fastai.callback.core import Callback


class EpochToLoader(Callback):
    """Tell the training loader the epoch, so that its order and augmentation are those of (seed, epoch, image)."""

    def before_train(self):
        """From here on the draws are this epoch's."""
        self.dls.train.epoch = self.epoch

    def after_train(self):
        """Outside of training, `show_batch` draws as it likes."""
        self.dls.train.epoch = None

    def after_fit(self):
        """Also where the fit was cancelled within an epoch, as a sweep is."""
        self.dls.train.epoch = None
