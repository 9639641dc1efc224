"""Loss and metrics, summed on the training device."""

import torch
from fastai import learner
from fastai.vision.all import AvgLoss, AvgMetric, AvgSmoothLoss, Learner, maybe_gather, num_distrib
from torch import Tensor

from runtime.readings import Readings


def accuracy(pred: Tensor, targ: Tensor) -> Tensor:
    """Share of correct predictions: `pred` N x classes, `targ` N. fastai's wraps both in a subclass of Tensor."""
    return (pred.argmax(-1) == targ).float().mean()


class _Mean:
    def accumulate(self, learn: Learner):
        value, n = self.of(learn), len(learn.yb[0])
        value = learn.to_detach(value, cpu=False) if num_distrib() > 1 else value.detach()
        self.total, self.count = self.total + value * n, self.count + n


class Mean(_Mean, AvgMetric):
    """fastai's AvgMetric, the mean of `func(pred, targ)` over the images, without `to_detach`'s copy to the CPU."""

    def of(self, learn: Learner) -> Tensor:
        """The value of one batch."""
        return self.func(learn.pred, *learn.yb)


class MeanLoss(_Mean, AvgLoss):
    """fastai's AvgLoss, the mean loss over the images, without `to_detach`'s copy to the CPU."""

    def of(self, learn: Learner) -> Tensor:
        """The value of one batch."""
        return learn.loss.mean()


class SmoothLoss(AvgSmoothLoss):
    """fastai's AvgSmoothLoss, without `to_detach`'s copy to the CPU."""

    def accumulate(self, learn: Learner):
        loss = maybe_gather(learn.loss.mean().detach())
        self.count, self.val = self.count + 1, torch.lerp(loss, self.val.to(loss.device), self.beta)


class Recorder(learner.Recorder):
    """fastai's Recorder, but its sums stay on the GPU: fastai's makes the host wait for the GPU in each batch.

    On a GPU `learn.smooth_loss` and `losses` are therefore a few batches late, until the training part of an epoch
    ends. They are never late in a sweep, which stops by them, and with several processes, which must stop together.
    """

    def __init__(self):
        super().__init__(train_metrics=True)
        self.loss, self.smooth_loss, self.readings = MeanLoss(), SmoothLoss(), Readings()

    def before_fit(self):
        super().before_fit()
        self.readings, self.waits = Readings(), num_distrib() > 1 or hasattr(self.learn, 'lr_finder')

    def after_batch(self):
        """Update the sums; in training also record the learning rate and the smoothed loss."""
        if not len(self.yb):
            return
        for meter in self.meters if self.training else self._valid_mets:
            meter.accumulate(self.learn)
        if self.training:
            self.lrs.append(self.opt.hypers[-1]['lr'])
            self.newest = self.smooth_loss.value
            self.readings.add(self.newest)
            self._read(wait=self.waits or not self.losses)  # `learn.smooth_loss` may be an earlier fit's NaN

    def after_train(self):
        self._read(wait=True)
        super().after_train()

    def after_fit(self):
        self._read(wait=True)  # a fit may be cancelled within an epoch

    def _read(self, wait: bool):
        for loss, _ in self.readings.read(wait):
            self.losses.append(loss)
            self.learn.smooth_loss = loss

    @property
    def meters(self) -> list:
        """The smoothed loss, which continues in the next epoch, and the metrics, which restart."""
        return [self.smooth_loss, *self.metrics]

    def numbers(self) -> list[dict]:
        """A copy of the meters' numbers, for a checkpoint."""
        return [{k: _copy(v) for k, v in vars(m).items() if isinstance(v, int | float | Tensor)} for m in self.meters]

    def restore(self, numbers: list[dict]):
        """Set the meters to a checkpoint's numbers; those from the start of an epoch are the smoothed loss's only."""
        for meter, its_own in zip(self.meters, numbers, strict=False):
            vars(meter).update(its_own)


def _copy(number: float | Tensor) -> float | Tensor:
    return number.as_subclass(Tensor).clone() if isinstance(number, Tensor) else number


def shared(numbers: list[dict], factor: float) -> list[dict]:
    """`numbers` for a process whose share of the images is `factor` times as large; averages count their own share."""
    if factor == 1:
        return numbers
    scale = {'total': factor, 'count': factor}
    return [{k: scale.get(k, 1) * v for k, v in m.items()} if 'total' in m else m for m in numbers]
