"""The commands in docs/several-devices.md, run by `accelerate launch` on a CPU."""

import csv
import os
import re
import shlex
import signal
import socket
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.commands import accelerate_cli
from forked import Forked
from tiny import write_images

from training.saved_run import load_run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs/several-devices.md').read_text()
ONE, TWO = re.findall(r'^(accelerate launch .*train_fastai\.py)$', PAGE, flags=re.M)


def launch(command: str, *options, port: int, machine: int = 0) -> Forked:
    """Start a documented command with two CPU processes instead of GPUs."""
    changes = {'10.0.0.1': '127.0.0.1', '29500': str(port), '16': '2'}
    words = [changes.get(word, word) for word in shlex.split(command)]
    if '--num_machines' in words:
        words[words.index('--machine_rank') + 1] = str(machine)
    else:
        words[2:2] = ['--multi_gpu', '--num_processes', '2', '--main_process_port', str(port)]
    script = words.index('train_fastai.py')
    return Forked(Path(accelerate_cli.__file__), *words[1:script], ROOT / words[script], *options)


@pytest.fixture
def start(monkeypatch):
    """Starts jobs, and kills those that still run at the end of the test."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    jobs = []

    def start(command, *options, machines=1):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        started = [launch(command, *options, port=port, machine=i) for i in range(machines)]
        jobs.extend(started)
        return started

    yield start
    for job in jobs:
        if job.is_alive():
            for child in psutil.Process(job.pid).children(recursive=True):
                child.kill()
            os.kill(job.pid, signal.SIGKILL)


def results_of(run: Path) -> tuple:
    """History without times, weights and mistakes: stopping and resuming must not change them."""
    history = [{**row, 'seconds': None} for row in csv.DictReader((run / 'history.csv').open())]
    best = torch.load(run / 'models/best.pth', weights_only=True)
    return history, {k: v.tolist() for k, v in best.items()}, (run / 'mistakes.csv').read_text()


@pytest.mark.slow
def test_a_killed_and_resumed_job_ends_like_an_uninterrupted_one_on_two_machines(tmp_path, start):
    data, runs = write_images(tmp_path / 'my images', test=1, size=(32, 32)), tmp_path / 'my runs'
    options = ['--data', data, '--out', runs, '--recipe', 'plateau', '--arch', 'mobilenet_v3_small', '--epochs', 9]
    options += ['--bs', 6, '--valid', 0.25, '--lr', 0.01, '--workers', 1, '--checkpoint-minutes', 0]

    first, second = start(TWO, *options, '--name', 'whole', machines=2)
    rc, out, err = first.end()
    assert rc == 0, err
    assert len(re.findall(r'^epoch \d/9 ', out, flags=re.M)) == 9
    assert out.count('page to review the mistakes') == 1
    assert second.end()[:2] == (0, ''), second.end()[2]

    (job,) = start(ONE, *options, '--name', 'cut')
    job.until('epoch 2/9')  # a checkpoint exists
    children = psutil.Process(job.pid).children()
    next(child for child in children if child.environ().get('RANK') == '1').kill()
    rc, _, err = job.end()
    assert rc != 0
    assert 'train_fastai.py: another process of this job has exited' in err
    assert f"to resume: accelerate launch train_fastai.py --resume '{runs}/cut'" in err

    (job,) = start(ONE, '--resume', runs / 'cut')
    job.until('epoch 5/9')
    os.kill(job.pid, signal.SIGTERM)
    rc, out, err = job.end()
    assert rc != 0
    assert re.search(r'^going on at epoch [2-5], ', out, flags=re.M)
    assert err.count('stopping after this batch') == err.count('train_fastai.py: interrupted') == 1
    assert not list(runs.rglob('.*.part'))

    (job,) = start(ONE, '--resume', runs / 'cut')
    rc, _, err = job.end()
    assert rc == 0, err
    assert results_of(runs / 'cut') == results_of(runs / 'whole')
    learn = load_run(runs / 'cut')  # on one process
    losses = [float(row['valid_loss']) for row in results_of(runs / 'cut')[0]]
    assert learn.validate()[0] == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.slow
def test_an_error_is_printed_once(tmp_path, start):
    (job,) = start(ONE, '--data', tmp_path / 'nowhere')
    rc, out, err = job.end()
    assert (rc, out) == (1, '')
    said = re.findall(r'^train_fastai\.py: .*', err, flags=re.M)
    assert len(said) == 1, err
    assert said[0].startswith(f'train_fastai.py: {tmp_path}/nowhere is neither a folder nor a file')
