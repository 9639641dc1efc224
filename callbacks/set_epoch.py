"""Pass the epoch to the training loader."""

from fastai.callback.core import Callback


class EpochToLoader(Callback):
    """Set the training loader's epoch: its order and augmentation depend on (seed, epoch, image) only."""

    def before_train(self):
        self.dls.train.epoch = self.epoch

    def after_train(self):
        """Without an epoch, as for `show_batch`, the loader's random draws aren't fixed."""
        self.dls.train.epoch = None

    def after_fit(self):
        """Reset it also if the fit was cancelled within an epoch, as a sweep is."""
        self.dls.train.epoch = None
