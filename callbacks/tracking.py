"""A run in an experiment tracker; neither is imported unless it's asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastai.callback.core import Callback

from checked_file import read_json
from data.pictures import read_picture
from errors import UserError

TOOLS = 'none', 'tensorboard', 'wandb'


def refuse_missing(tool: str) -> None:
    """UserError where the package `tool` isn't installed."""
    if tool == 'none':
        return
    try:
        version(tool)  # not `find_spec`, which finds the folder wandb/ that W&B makes wherever it's used
    except PackageNotFoundError as e:
        raise UserError(f"--track {tool}: it isn't installed: pip install {tool}") from e


@contextmanager
def tracked(tool: str, run: Path) -> Iterator[list[Callback]]:
    """Callbacks for `fit` that log the run in the folder `run` to `tool`, on in the same log where it's resumed.

    At the end its summary, its pictures and its best weights are logged.
    """
    if tool == 'none':
        yield []
        return
    logger = import_module(f'callbacks.{tool}').RunLogger(run, _json(run / 'config.json'))
    try:
        yield [logger]
        plots = run / 'plots'
        files = {f.relative_to(plots).with_suffix('').as_posix(): f for f in sorted(plots.rglob('*.png'))}
        pictures = {name: picture for name, f in files.items() if (picture := read_picture(f))}
        logger.log_results(_json(run / 'summary.json'), pictures, run / 'models/best.pth')
    except BaseException:
        logger.close(failed=True)
        raise
    logger.close()


def _json(file: Path) -> dict:
    return read_json(file, f'{file.name} of a run', dict)
