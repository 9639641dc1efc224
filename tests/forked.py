"""Run a Python script in a fork of this process, which has imported its libraries: that takes seconds."""

import os
import resource
import runpy
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

import torch

SECONDS = 300  # after which a process that hangs is killed


class Forked:
    """A running `script` in its own process group, which can write files of at most `limit` bytes."""

    def __init__(self, script: Path, *args, limit: int | None = None):
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        self.process = get_context('fork').Process(target=_run, args=(script, args, to_out, to_err, limit))
        self.process.start()
        os.close(to_out)
        os.close(to_err)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.pid, self.lines = self.process.pid, []

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def until(self, text: str) -> None:
        """Read the output until a line contains `text`."""
        for line in self.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError(f'it ended before {text!r}: {self.lines} {self.stderr.read()}')

    def end(self) -> tuple[int, str, str]:
        """Wait for it to exit; return the exit code, stdout and stderr."""
        with self.stdout, self.stderr:
            out, err = ''.join([*self.lines, self.stdout.read()]), self.stderr.read()
        self.process.join()
        return self.process.exitcode, out, err


def _run(script: Path, args: tuple, out: int, err: int, limit: int | None) -> None:
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
    sys.argv = [str(script), *map(str, args)]
    runpy.run_path(str(script), run_name='__main__')
