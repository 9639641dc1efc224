"""Validation by several processes."""

from fastai.distributed import DistributedTrainer
from fastai.vision.all import Callback, get_model
from torch import distributed

from runtime.processes import gathered


class SharedValidation(Callback):
    """Validate the same model on all ranks, each on its share of the images, and combine the metrics.

    Each image counts once; fastai averages over all ranks' batches regardless of their sizes. Metrics must be averages
    over images.
    """

    order = DistributedTrainer.order + 1  # after it has wrapped the model, before the Recorder reads the metrics

    def before_validate(self):
        """Unwrap the model: DistributedDataParallel would wait for all ranks in each batch."""
        self.parallel, self.learn.model = self.model, get_model(self.model)
        for buffer in self.model.buffers():  # each rank's BatchNorm has its own statistics
            distributed.broadcast(buffer, 0)

    def after_validate(self):
        """Wrap the model again, and sum the metrics over all ranks."""
        self.learn.model = self.parallel
        metrics = self.recorder._valid_mets
        sums = gathered([(float(metric.total), metric.count) for metric in metrics])
        for metric, parts in zip(metrics, zip(*sums, strict=True), strict=True):
            metric.total, metric.count = (sum(part) for part in zip(*parts, strict=True))
