"""Log a run to an experiment tracker; only the requested tracker is imported."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastai.vision.all import Callback, rank_distrib

from data.pictures import read_picture
from runtime.checked_file import read_json
from runtime.errors import UserError


def refuse_missing(tool: str) -> None:
    """Raise UserError if the package `tool` isn't installed."""
    if tool == 'none':
        return
    try:
        version(tool)  # not `find_spec`, which also finds the folder wandb/ that W&B creates
    except PackageNotFoundError as e:
        raise UserError(f"--track {tool}: it isn't installed: pip install {tool}") from e


@contextmanager
def tracked(tool: str, run: Path) -> Iterator[list[Callback]]:
    """Yield the callbacks for `fit` that log the run folder `run` to `tool`; log the results at the end."""
    if tool == 'none' or rank_distrib():  # rank 0 logs for all
        yield []
        return
    logger = import_module(f'callbacks.trackers.{tool}').RunLogger(run, _json(run / 'config.json'))
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
