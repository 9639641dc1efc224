"""Validation by several processes."""

from fastai.callback.core import Callback
from fastai.distributed import DistributedTrainer
from fastai.torch_core import get_model
from torch import distributed

from ranks import gathered


class SharedValidation(Callback):
    """Let each rank validate the same model on its share of the images, and put the metrics together: each counts once.

    fastai's own are the mean over all ranks' batches, whatever their sizes. Metrics have to be averages over images.
    """

    order = DistributedTrainer.order + 1  # on the model that it has wrapped, and before the Recorder reads the metrics

    def before_validate(self):
        """Take the model out of DistributedDataParallel, which would wait for all ranks in each batch."""
        self.parallel, self.learn.model = self.model, get_model(self.model)
        for buffer in self.model.buffers():  # those that BatchNorm doesn't share
            distributed.broadcast(buffer, 0)

    def after_validate(self):
        """Put it back, and make the metrics those of all images."""
        self.learn.model = self.parallel
        metrics = self.recorder._valid_mets
        sums = gathered([(float(metric.total), metric.count) for metric in metrics])
        for metric, parts in zip(metrics, zip(*sums, strict=True), strict=True):
            metric.total, metric.count = (sum(part) for part in zip(*parts, strict=True))
