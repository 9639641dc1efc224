"""How long it will take."""

from time import perf_counter

from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback


class ETA(Callback):
    """After the first batches, say how long the whole run will take, and on a slow CPU what to do instead."""

    order = ProgressCallback.order + 1
    warm_up, timed = 1, 3  # batches; the first one also pays for lazy initialisation

    def after_batch(self):
        """Time batches `warm_up` to `warm_up + timed` of the fit and extrapolate."""
        if not self.training:
            return
        if self.train_iter == self.warm_up:
            self.start = perf_counter()
        elif self.train_iter == self.warm_up + self.timed:
            self._say((perf_counter() - self.start) / self.timed)

    def _say(self, seconds: float):
        train, *others = (len(dl) for dl in self.dls.loaders)
        valid, test = others[0], sum(others[1:])
        left = self.n_epoch - self.epoch
        done = self.iter + 1 - self.train_iter  # batches of this epoch, where training goes on within it
        # a forward pass costs about a third of a training step
        total = seconds * (left * train - done + (left * valid + test) / 3)
        device = self.dls.device.type
        epochs = '1 epoch' if left == 1 else f'{left} epochs'
        print(f'about {in_words(total)} for {epochs} of {train} batches on this {device.upper()}')
        if device == 'cpu' and total > 3600:
            print(
                '  for a look in minutes: --data digits, or --fraction 0.1 --epochs 5; for a CPU: --recipe speedrun; '
                'Colab has free GPUs'
            )


def in_words(seconds: float) -> str:
    """`seconds` as a person would say them."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f'{max(round(seconds), 1)} s'
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
