"""Run `python train_fastai.py ...` in a fork of this process, which has imported everything: that takes seconds."""

import os
import resource
import runpy
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[1] / 'train_fastai.py'
SECONDS = 200  # after which a process that hangs is killed


class Forked:
    """A running train_fastai.py in its own process group, which can write files of at most `limit` bytes."""

    def __init__(self, *args, limit: int | None = None):
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        self.process = get_context('fork').Process(target=_train, args=(args, to_out, to_err, limit))
        self.process.start()
        os.close(to_out)
        os.close(to_err)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.pid = self.process.pid

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def until(self, text: str) -> None:
        """Read the output until a line contains `text`."""
        lines = []
        for line in self.stdout:
            lines.append(line)
            if text in line:
                return
        raise AssertionError(f'it ended before {text!r}: {lines} {self.stderr.read()}')

    def end(self) -> tuple[int, str, str]:
        """Wait for it to exit; return the exit code and the rest of stdout and stderr."""
        with self.stdout, self.stderr:
            out, err = self.stdout.read(), self.stderr.read()
        self.process.join()
        return self.process.exitcode, out, err


def _train(args: tuple, out: int, err: int, limit: int | None) -> None:
    os.setsid()
    signal.alarm(SECONDS)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')  # pytest has replaced them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # torch's thread pool doesn't survive a fork
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ['train_fastai.py', *map(str, args)]
    runpy.run_path(str(SCRIPT), run_name='__main__')
