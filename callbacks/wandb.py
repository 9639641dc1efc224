"""A run in Weights & Biases."""

import os
import re
from pathlib import Path
from secrets import token_hex

import wandb
from fastai.callback.wandb import WandbCallback, log_model
from PIL.Image import Image

from checked_file import read_json
from errors import UserError
from run_folder import write_json


class RunLogger(WandbCallback):
    """fastai's WandbCallback for runs that are resumed; what W&B writes, and offline all there is, is in `run`/wandb.

    A step is a batch, counted from the run's first. fastai's own counts on from what W&B's server has, which may be
    after the checkpoint, and which offline nobody knows. The project is WANDB_PROJECT, or train-fastai. UserError where
    W&B refuses.
    """

    def __init__(self, run: Path, config: dict):
        super().__init__(log_preds=False)  # or it would fetch predictions, which draws random numbers
        file = run / 'wandb.json'
        if not file.exists():
            write_json(file, {'id': token_hex(4)})
        try:
            self.wandb_run = wandb.init(
                project=os.environ.get('WANDB_PROJECT', 'train-fastai'),
                id=read_json(file, "run's W&B id", _id),
                resume='allow',
                name=run.name,
                dir=run,
                config=config,
            )
        except wandb.Error as e:
            raise UserError(f'--track wandb: {" ".join(str(e).split())} (WANDB_MODE=offline needs no server)') from e

    def before_fit(self):
        """Not as fastai's, which takes a batch from a loader and fails as it takes all a Learner has for options."""

    def before_train(self):
        """Count from where the checkpoint has put the training."""
        train = self.dls.train
        self._wandb_step = self.epoch * len(train) + train.skip - 1
        self._wandb_epoch = self.epoch + train.skip / len(train)

    def after_batch(self):
        """As fastai's, but for steps that W&B has from before the run was killed: it would warn of each of them."""
        if not self.training or self._wandb_step + 1 >= self.wandb_run.step:
            super().after_batch()
            return
        self._wandb_step += 1
        self._wandb_epoch += 1 / self.n_iter

    def after_epoch(self):
        """Likewise."""
        if self._wandb_step >= self.wandb_run.step:
            super().after_epoch()

    def after_fit(self):
        """Not as fastai's, which counts steps that there may not have been."""

    def log_results(self, summary: dict, pictures: dict[str, Image], weights: Path):
        """Log what has come out, the weights as an artifact of the run; UserError where W&B refuses."""
        try:
            self.wandb_run.log({name: wandb.Image(picture) for name, picture in pictures.items()})
            self.wandb_run.summary.update(summary)
            log_model(weights, metadata={**summary})  # which it makes strings of
        except wandb.Error as e:
            missing = f"the run is complete, but W&B hasn't all its results: {e}; --resume sends them"
            raise UserError(f'--track wandb: {missing}') from e

    def close(self, failed: bool = False):
        """Send what is not yet sent."""
        self.wandb_run.finish(exit_code=int(failed))


def _id(content: dict) -> str:
    """The run's id at W&B, which names a folder, too: one that leads elsewhere is a ValueError."""
    if not re.fullmatch('[0-9a-f]{8}', content['id']):
        raise ValueError(f'id {content["id"]}')
    return content['id']
