"""Log a run to TensorBoard."""

import json
from pathlib import Path

import numpy as np
from fastai.callback.tensorboard import TensorBoardCallback
from PIL.Image import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from runtime.errors import printable
from runtime.readings import Readings


class Writer(SummaryWriter):
    """A SummaryWriter that skips values other than numbers, and writes tensors once they are known, without a wait.

    fastai passes flags of torch's optimisers, and None for missing hyper-parameters and for metrics without validation.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.readings = Readings()

    def add_scalar(self, tag: str, scalar_value: float | Tensor | None, global_step: int | None = None):
        if isinstance(scalar_value, float):
            super().add_scalar(tag, scalar_value, global_step)
        elif isinstance(scalar_value, Tensor):
            self.readings.add(scalar_value, (tag, global_step))

    def flush(self, wait: bool = False):
        """Write the tensors that are known, or all, and flush the file."""
        for value, (tag, step) in self.readings.read(wait):
            super().add_scalar(tag, value, step)
        super().flush()

    def close(self):
        self.flush(wait=True)
        super().close()


class RunLogger(TensorBoardCallback):
    """fastai's TensorBoardCallback for resumable runs; logs to `run`/tensorboard.

    Steps count batches from the start of the run; fastai counts from the start of the fit. The graph and sample
    predictions are off: they take batches from the loaders and would change the run's random draws.
    """

    run_valid = False  # otherwise each validation batch logs the training loss again

    def __init__(self, run: Path, config: dict):
        super().__init__(run / 'tensorboard', trace_model=False, log_preds=False)
        self.config, self.writer, self.steps = config, None, 0
        print(printable(f'to watch: tensorboard --logdir {run.parent}'))

    @property
    def train_iter(self) -> int:
        """The step, under the name that fastai reads."""
        return self.steps

    @property
    def smooth_loss(self) -> Tensor:
        """The smoothed loss, under the name that fastai reads; the Learner's is late on a GPU."""
        return self.recorder.newest

    def _setup_writer(self):
        # the end; if training continues, `before_train` sets the right step
        self.steps = self.n_epoch * len(self.dls.train)

    def before_train(self):
        """Start logging at the position that Checkpoint has restored, which happens after fastai's `before_fit`."""
        self.steps = self.epoch * len(self.dls.train) + self.dls.train.skip
        self._open()

    def after_batch(self):
        """Log the smoothed loss and each parameter group's learning rate, momentum and weight decay."""
        self.steps += 1
        super().after_batch()
        self.writer.flush()  # 0.15 ms; a killed run then has all steps up to its checkpoint

    def after_epoch(self):
        super().after_epoch()
        self.writer.flush(wait=True)

    def after_fit(self):
        """Keep the log open for the results."""

    def log_results(self, summary: dict, pictures: dict[str, Image], weights: Path):
        """Log the summary and the pictures; the weights are in the run folder already."""
        self._open()
        self._add_json('summary', summary)
        for name, picture in pictures.items():
            self.writer.add_image(name, np.asarray(picture), self.steps + 1, dataformats='HWC')

    def close(self, failed: bool = False):
        if self.writer:
            self.writer.close()

    def _open(self):
        if not self.writer:
            # `purge_step` hides the steps from here on that an earlier process logged
            self.writer = Writer(self.log_dir, purge_step=self.steps + 1)
            self._add_json('config', self.config)

    def _add_json(self, name: str, content: dict):
        self.writer.add_text(name, f'```\n{json.dumps(content, indent=2)}\n```', self.steps + 1)
