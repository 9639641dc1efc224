"""The commands in docs/several-devices.md, run by `accelerate launch` on a CPU."""

import csv
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from tiny import write_images

from training.saved_run import load_run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs/several-devices.md').read_text()
ONE, TWO = re.findall(r'^(accelerate launch .*train_fastai\.py)$', PAGE, flags=re.M)
SECONDS = 300  # timeout of a command that hangs


class Job:
    """A documented command with two CPU processes instead of GPUs; its output goes to files."""

    def __init__(self, tmp: Path, command: str, *options, port: int, machine: int = 0):
        changes = {'10.0.0.1': '127.0.0.1', '29500': str(port), '16': '2'}
        words = [changes.get(word, word) for word in shlex.split(command)]
        if '--num_machines' in words:
            words[words.index('--machine_rank') + 1] = str(machine)
        else:
            words[2:2] = ['--multi_gpu', '--num_processes', '2', '--main_process_port', str(port)]
        self.out, self.err = (tmp / f'{len(list(tmp.iterdir()))}.{name}' for name in ('out', 'err'))
        accelerate = [sys.executable, '-m', 'accelerate.commands.accelerate_cli']
        script = words.index('train_fastai.py')
        words = [*accelerate, *words[1:script], ROOT / words[script], *map(str, options)]
        with self.out.open('w') as out, self.err.open('w') as err:
            env = {**os.environ, 'OMP_NUM_THREADS': '1'}
            self.process = subprocess.Popen(words, stdout=out, stderr=err, env=env)

    def wait_for(self, line: str):
        """Wait until it has printed a line that starts with `line`."""
        start = time.monotonic()
        while not any(printed.startswith(line) for printed in self.out.read_text().splitlines()):
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() - start < SECONDS, self.err.read_text()
            time.sleep(0.1)

    def rank(self, rank: int) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.environ().get('RANK') == str(rank))

    def end(self) -> tuple[int, str, str]:
        """Wait for it to exit; return the exit code, stdout and stderr."""
        return self.process.wait(SECONDS), self.out.read_text(), self.err.read_text()


@pytest.fixture
def start(tmp_path):
    """Starts jobs, and kills those that still run at the end of the test."""
    jobs = []

    def start(command, *options, machines=1):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        (tmp_path / 'logs').mkdir(exist_ok=True)
        started = [Job(tmp_path / 'logs', command, *options, port=port, machine=i) for i in range(machines)]
        jobs.extend(started)
        return started

    yield start
    for job in jobs:
        if job.process.poll() is None:
            for child in psutil.Process(job.process.pid).children(recursive=True):
                child.kill()
            job.process.kill()


def results_of(run: Path) -> tuple:
    """History without times, weights and mistakes: stopping and resuming must not change them."""
    history = [{**row, 'seconds': None} for row in csv.DictReader((run / 'history.csv').open())]
    best = torch.load(run / 'models/best.pth', weights_only=True)
    return history, {k: v.tolist() for k, v in best.items()}, (run / 'mistakes.csv').read_text()


@pytest.mark.slow
def test_a_killed_and_resumed_job_ends_like_an_uninterrupted_one_on_two_machines(tmp_path, start):
    data, runs = write_images(tmp_path / 'my images', test=1), tmp_path / 'my runs'
    options = ['--data', data, '--out', runs, '--recipe', 'plateau', '--epochs', 4, '--bs', 6]
    options += ['--valid', 0.25, '--lr', 0.01, '--workers', 1, '--checkpoint-minutes', 0]

    first, second = start(TWO, *options, '--name', 'whole', machines=2)
    rc, out, err = first.end()
    assert rc == 0, err
    assert len(re.findall(r'^epoch \d/4 ', out, flags=re.M)) == 4
    assert out.count('page to review the mistakes') == 1
    assert second.end()[:2] == (0, ''), second.end()[2]

    (job,) = start(ONE, *options, '--name', 'cut')
    job.wait_for('epoch 2/4')  # a checkpoint exists
    job.rank(1).kill()
    rc, _, err = job.end()
    assert rc != 0
    assert 'train_fastai.py: another process of this job has exited' in err
    assert f"to resume: accelerate launch train_fastai.py --resume '{runs}/cut'" in err

    (job,) = start(ONE, '--resume', runs / 'cut')
    job.wait_for('epoch 3/4')
    job.process.send_signal(signal.SIGTERM)
    rc, out, err = job.end()
    assert rc != 0
    assert re.search(r'^going on at epoch [23], ', out, flags=re.M)
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
