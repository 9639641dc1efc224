"""Lookahead: slow weights that follow the optimiser's weights."""

from fastai.vision.all import Callback, get_model
from torch import Tensor, nn

EVERY, DECAY = 5, 0.95**5


class Lookahead(Callback):
    """Every five batches, move slow weights towards the model's, then set the model to them; also after the last batch.

    Their decay grows with the cube of the fraction of the training that is done. Zhang et al. 2019, arXiv 1907.08610,
    as in Jordan 2024, arXiv 2404.00498: it includes buffers, for example BatchNorm's statistics.
    """

    def before_fit(self):
        self.slow = {name: v.clone() for name, v in float_weights(self.model).items()}

    def after_batch(self):
        done, total = self.epoch * self.n_iter + self.iter + 1, self.n_epoch * self.n_iter
        if self.training and (done % EVERY == 0 or done == total):
            keep = DECAY * (done / total) ** 3 if done < total else 1.0
            for name, v in float_weights(self.model).items():
                v.copy_(self.slow[name].lerp_(v, 1 - keep))

    def after_fit(self):
        self.slow = {}

    def state_dict(self) -> dict:
        return {'slow': self.slow}

    def load_state_dict(self, state: dict):
        """Copy the slow weights of a checkpoint; RuntimeError if another model's."""
        for name, v in self.slow.items():
            v.copy_(state['slow'][name])


def float_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of `model` by name, detached, without integers such as BatchNorm's count of batches."""
    return {name: v.detach() for name, v in get_model(model).state_dict().items() if v.is_floating_point()}
