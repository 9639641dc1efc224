"""A run in TensorBoard."""

import json
from pathlib import Path

import numpy as np
from fastai.callback.tensorboard import TensorBoardCallback
from PIL.Image import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from errors import printable


class Writer(SummaryWriter):
    """One that leaves out what is no number: fastai hands it the flags of torch's optimisers, and None where those or a
    validation without images have nothing, which would end the training.
    """

    def add_scalar(self, tag: str, scalar_value: float | Tensor | None, *args, **kwargs):
        """Add a point of a curve, if it is one."""
        if isinstance(scalar_value, float | Tensor):
            super().add_scalar(tag, scalar_value, *args, **kwargs)


class RunLogger(TensorBoardCallback):
    """fastai's TensorBoardCallback for runs that are resumed; its log is in `run`/tensorboard.

    A step is a batch, counted from the run's first; fastai's own counts from the first of the fit. Its graph and its
    samples stay off, as they take batches from the loaders, which a run must find as it does without them.
    """

    run_valid = False  # or the training loss would be logged again for each batch of the validation

    def __init__(self, run: Path, config: dict):
        super().__init__(run / 'tensorboard', trace_model=False, log_preds=False)
        self.config, self.writer, self.steps = config, None, 0
        print(printable(f'to watch: tensorboard --logdir {run.parent}'))

    @property
    def train_iter(self) -> int:
        """The step, where fastai looks for it."""
        return self.steps

    def _setup_writer(self):
        self.steps = self.n_epoch * len(self.dls.train)  # if training goes on, `before_train` knows better

    def before_train(self):
        """Begin to write where the checkpoint has put the training, which is after fastai's `before_fit`."""
        self.steps = self.epoch * len(self.dls.train) + self.dls.train.skip
        self._open()

    def after_batch(self):
        """Log the smoothed loss and each group's learning rate, momentum and weight decay."""
        self.steps += 1
        super().after_batch()
        self.writer.flush()  # 0.15 ms: so that a killed run has all steps up to its checkpoint

    def after_epoch(self):
        """Log the metrics."""
        super().after_epoch()
        self.writer.flush()

    def after_fit(self):
        """Keep the log open for the results."""

    def log_results(self, summary: dict, pictures: dict[str, Image], weights: Path):
        """Log what has come out; the weights are in the run's folder already, beside the log."""
        self._open()
        self._add_json('summary', summary)
        for name, picture in pictures.items():
            self.writer.add_image(name, np.asarray(picture), self.steps + 1, dataformats='HWC')

    def close(self, failed: bool = False):
        """Write what is not yet written."""
        if self.writer:
            self.writer.close()

    def _open(self):
        if not self.writer:  # which hides what an earlier process logged of the steps that are to come
            self.writer = Writer(self.log_dir, purge_step=self.steps + 1)
            self._add_json('config', self.config)

    def _add_json(self, name: str, content: dict):
        self.writer.add_text(name, f'```\n{json.dumps(content, indent=2)}\n```', self.steps + 1)
