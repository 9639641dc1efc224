"""Stop training when the validation loss stops improving."""

from fastai.callback.tracker import EarlyStoppingCallback, TrackerCallback

from runtime.console import say


class EarlyStop(EarlyStoppingCallback):
    """fastai's EarlyStoppingCallback for a training that can be resumed; needs a `ResumableLearner`.

    It makes the current epoch the last one instead of cancelling the fit, so the last checkpoint is saved as usual. A
    checkpoint records that the training has stopped: resuming it trains no further.
    """

    order = TrackerCallback.order + 1  # before the checkpoint

    def before_fit(self):
        super().before_fit()
        self.stopped = None

    def after_epoch(self):
        """Make this the fit's last epoch after `patience` epochs without improvement."""
        TrackerCallback.after_epoch(self)
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait < self.patience:
            return
        if self.epoch + 1 < self.n_epoch:
            say(f'epoch {self.epoch + 1}: {self.monitor} has not improved for {self.patience} epochs, training stops')
        self._stop_after(self.epoch + 1)

    def _stop_after(self, epochs: int):
        self.stopped = self.learn.n_epoch = epochs

    def state_dict(self) -> dict:
        return {'best': self.best, 'wait': self.wait, 'stopped': self.stopped}

    def load_state_dict(self, state: dict):
        self.best, self.wait = state['best'], state['wait']
        if state['stopped']:
            self._stop_after(state['stopped'])
