"""Whether a run is finished: its folder has a mark until the very last thing is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastai.torch_core import rank_distrib

from atomic import replacing
from callbacks.checkpoint import NAMES

MARK = 'unfinished'


def is_finished(run: Path) -> bool:
    """Whether all of `run` is done; one from before there was a mark is finished when it has its page."""
    return (run / 'report.html').is_file() and not (run / MARK).exists()


@contextmanager
def marked_unfinished(run: Path, keep_checkpoints: bool) -> Iterator[None]:
    """Mark `run` until what is done here has succeeded; then remove its checkpoints, unless `keep_checkpoints`."""
    if rank_distrib():
        yield
        return
    with replacing(run / MARK) as part:
        part.touch()
    yield
    (run / MARK).unlink()
    for name in NAMES:
        if not keep_checkpoints:
            (run / 'models' / name).unlink(missing_ok=True)
