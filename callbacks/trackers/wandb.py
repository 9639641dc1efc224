"""Log a run to Weights & Biases."""

import os
import re
from pathlib import Path
from secrets import token_hex

import torch
import wandb
from fastai.callback.wandb import WandbCallback, log_model
from PIL.Image import Image

from runtime.checked_file import read_json
from runtime.errors import UserError
from runtime.files import write_json
from runtime.readings import Readings


class RunLogger(WandbCallback):
    """fastai's WandbCallback for resumable runs; W&B's files (offline, the whole log) are in `run`/wandb.

    Steps count batches from the start of the run. fastai counts on from the last step on W&B's server, which may be
    later than the checkpoint and is unknown offline. The project is WANDB_PROJECT, or train-fastai. Raises UserError
    if W&B refuses to start.
    """

    def __init__(self, run: Path, config: dict):
        super().__init__(log_preds=False)  # predictions would draw random numbers
        self.readings = Readings()
        file = run / 'wandb.json'
        if not file.exists():
            write_json(file, {'id': token_hex(4)})
        project, mine = os.environ.get('WANDB_PROJECT', 'train-fastai'), read_json(file, "run's W&B id", _id)
        try:
            self.wandb_run = wandb.init(project=project, id=mine, resume='allow', name=run.name, dir=run, config=config)
        except wandb.Error as e:
            raise UserError(f'--track wandb: {" ".join(str(e).split())} (WANDB_MODE=offline needs no server)') from e

    def before_fit(self):
        """Skip fastai's: it takes a batch from a loader, and fails when it logs the Learner's attributes as options."""

    def before_train(self):
        """Count from the position that Checkpoint has restored."""
        train = self.dls.train
        self._wandb_step = self.epoch * len(train) + train.skip - 1
        self._wandb_epoch = self.epoch + train.skip / len(train)

    def after_batch(self):
        """Log what fastai's does, except its images per second, once the losses are known: no wait for a GPU.

        Steps that W&B has from before the run was killed are left out: it would warn about each of them.
        """
        if self.training:
            self._wandb_step += 1
            self._wandb_epoch += 1 / self.n_iter
            hypers = {f'{name}_{i}': value for i, group in enumerate(self.opt.hypers) for name, value in group.items()}
            losses = torch.stack([self.recorder.newest, self.loss.detach().mean()])
            self.readings.add(losses, (self._wandb_step, {'epoch': self._wandb_epoch, **hypers}))
            self._log()

    def _log(self, wait: bool = False):
        for losses, (step, row) in self.readings.read(wait):
            if step >= self.wandb_run.step:
                smooth, raw = losses.tolist()
                self.wandb_run.log({'train_loss': smooth, 'raw_loss': raw, **row}, step=step)

    def after_epoch(self):
        self._log(wait=True)
        if self._wandb_step >= self.wandb_run.step:
            super().after_epoch()

    def after_fit(self):
        """Skip fastai's, which logs an extra step."""

    def log_results(self, summary: dict, pictures: dict[str, Image], weights: Path):
        """Log summary and pictures, and the weights as an artifact; UserError if W&B fails."""
        try:
            self.wandb_run.log({name: wandb.Image(picture) for name, picture in pictures.items()})
            self.wandb_run.summary.update(summary)
            log_model(weights, metadata={**summary})  # a copy: W&B converts its values to strings
        except wandb.Error as e:
            missing = f'the run is complete, but some results are not in W&B: {e}; --resume sends them'
            raise UserError(f'--track wandb: {missing}') from e

    def close(self, failed: bool = False):
        self.wandb_run.finish(exit_code=int(failed))


def _id(content: dict) -> str:
    """The run's W&B id. It also names a folder, so any other form, such as a path, is a ValueError."""
    if not re.fullmatch('[0-9a-f]{8}', content['id']):
        raise ValueError(f'id {content["id"]}')
    return content['id']
