"""Tiny data and learners, made for each test."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fastai.data.external import fastai_cfg
from tiny import TINY, tiny_dls, tiny_model, write_images, write_run

import train_fastai


@pytest.fixture(scope='session', autouse=True)
def fastai_home(tmp_path_factory) -> None:
    """A temporary FASTAI_HOME for cached images and other files in fastai's data folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv('FASTAI_HOME', str(tmp_path_factory.mktemp('fastai')))
        fastai_cfg.cache_clear()
        yield
    fastai_cfg.cache_clear()


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of the cache of decoded images, in a temporary home."""
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path / 'home'))
    fastai_cfg.cache_clear()
    yield tmp_path / 'home/data/pixels'
    fastai_cfg.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 8 training and 4 test images of 16x16."""
    return write_images(tmp_path / 'images')


@pytest.fixture
def learner(folder: Path, tmp_path: Path, monkeypatch) -> Callable:
    """Makes Learners by `get_learner`, with the tiny images and `tiny_net`, each with its own run folder."""
    runs = []
    monkeypatch.setattr('training.learner.get_model', tiny_model)

    def make(recipe=TINY, **kwargs):
        runs.append(tmp_path / f'run{len(runs)}')
        (runs[-1] / 'models').mkdir(parents=True)
        return train_fastai.get_learner(tiny_dls(folder, recipe, **kwargs), recipe, runs[-1])

    return make


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch) -> Path:
    """A run folder of the tiny images, with the untrained weights of a `tiny_net`."""
    for user in ('training.learner', 'export', 'tiny'):
        monkeypatch.setattr(f'{user}.get_model', tiny_model)
    return write_run(tmp_path / 'runs', folder)


@pytest.fixture
def thresholds_of_avx2(monkeypatch) -> None:
    """Use Winograd convolutions from the sizes that are faster with AVX2, on any test machine."""
    monkeypatch.setattr('models.winograd.convolution.CHANNELS', 64)
    monkeypatch.setattr('models.winograd.convolution.PIXELS', 1000)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers of a process started by a terminal; one started in the background may ignore Ctrl-C."""
    before = {signum: signal.signal(signum, signal.default_int_handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def command(capsys, handlers) -> Iterator[Callable]:
    """Runs train_fastai.py in this process, on one thread; returns the exit code, stdout and stderr."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run_here(**options):
        options, code = {name: str(o) if isinstance(o, Path) else o for name, o in options.items()}, 0
        try:
            train_fastai.main(**options)
        except SystemExit as e:
            code = e.code
        return code, *capsys.readouterr()

    yield run_here
    torch.set_num_threads(threads)
