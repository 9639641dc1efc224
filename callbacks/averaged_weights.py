"""Validate and save weights that are averaged over time."""

from fastai.callback.core import Callback
from fastai.torch_core import num_distrib
from torch import Tensor, distributed
from torch.optim.swa_utils import get_ema_multi_avg_fn

from callbacks.save_model import SaveModel
from callbacks.slow_weights import float_weights


class AveragedWeights(Callback):
    """Validate and save an exponential moving average of the weights, over about the last `epochs` epochs.

    The optimiser's own weights go on from where they were. A validation loss without the noise of a high learning rate
    shows a plateau earlier. Polyak & Juditsky 1992; Morales-Brogini et al. 2024, arXiv 2411.18704. Buffers, for example
    BatchNorm's statistics, are averaged too.
    """

    order = SaveModel.order + 1  # it saves in `after_epoch`, before the optimiser's weights return

    def __init__(self, epochs: float):
        self.epochs = epochs

    def before_fit(self):
        self.average, self.validating = None, False

    def before_train(self):
        if self.average is None:  # else of a checkpoint
            self.average = {name: v.clone() for name, v in float_weights(self.model).items()}

    def after_batch(self):
        if self.training:
            move = get_ema_multi_avg_fn(1 - 1 / (self.epochs * self.n_iter))
            move([*self.average.values()], [*float_weights(self.model).values()], None)

    def before_validate(self):
        if num_distrib() > 1:  # each rank's BatchNorm has its own statistics
            for average in self.average.values():
                distributed.broadcast(average, 0)
        self._swap()

    def after_epoch(self):
        self._swap()

    def after_fit(self):
        self.average = None

    def _swap(self):
        self.validating = not self.validating
        for name, v in float_weights(self.model).items():
            own = v.clone()
            v.copy_(self.average[name])
            self.average[name].copy_(own)

    def state_dict(self) -> dict[str, dict[str, Tensor] | bool]:
        """For a checkpoint: in validation, the model has the average, and `average` the optimiser's weights."""
        return {'average': self.average, 'validating': self.validating}

    def load_state_dict(self, state: dict):
        """Copy a checkpoint's average; RuntimeError if another model's."""
        self.average = {name: v.clone() for name, v in float_weights(self.model).items()}
        for name, v in self.average.items():
            v.copy_(state['average'][name])
        self.validating = state['validating']
        if self.validating:
            self._swap()
