"""Ctrl-C and SIGTERM, where work would be lost by stopping at once."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from fastai.torch_core import num_distrib, rank_distrib


@contextmanager
def deferred_interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, as Slurm and spot machines send it; the second ends all at once.

    Whoever finds it set winds up and raises KeyboardInterrupt; if nobody did, that comes at the end. In another thread
    than the main one, which alone may handle signals, nothing changes.
    """
    asked, here, first = threading.Event(), os.getpid(), 0.0

    def ask(signum, frame):
        nonlocal first
        if os.getpid() != here:  # a worker that has only just been forked
            return
        if asked.is_set():
            if num_distrib() > 1 and monotonic() - first < 2:  # Slurm tells all processes, and the launcher them again
                return
            if hasattr(signal, 'SIGCHLD'):  # torch's handler would raise an error for each worker
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for worker in multiprocessing.active_children():
                worker.kill()
            raise KeyboardInterrupt
        asked.set()
        first = monotonic()
        if rank_distrib():
            return
        with suppress(OSError):  # where stderr is closed
            # not `print`, which may be what was interrupted
            os.write(2, b'\nstopping after this batch; once more to stop at once\n')

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]  # as nohup wants
    before = {signum: signal.signal(signum, ask) for signum in signals}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if asked.is_set():
        raise KeyboardInterrupt
