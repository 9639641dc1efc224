"""Whether a run is finished: its folder has a marker file until its last step has succeeded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastai.torch_core import rank_distrib

from callbacks.checkpoint import NAMES
from runtime.files import replacing

MARK = 'unfinished'


def is_finished(run: Path) -> bool:
    """Whether all steps of `run` are done. Runs of versions without the marker are finished once report.html exists."""
    return (run / 'report.html').is_file() and not (run / MARK).exists()


@contextmanager
def marked_unfinished(run: Path, keep_checkpoints: bool) -> Iterator[None]:
    """Mark `run` as unfinished until this context succeeds; then remove its checkpoints, unless `keep_checkpoints`."""
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
