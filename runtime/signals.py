"""Defer Ctrl-C and SIGTERM so that no work is lost."""

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
    """Yield an event that the first Ctrl-C or SIGTERM (Slurm, spot machines) sets; the second one stops at once.

    Code that sees the event set should save its work and raise KeyboardInterrupt; otherwise it is raised when the
    block ends. Only the main thread can handle signals: in other threads this does nothing.
    """
    asked, here, first = threading.Event(), os.getpid(), 0.0

    def ask(signum, frame):
        nonlocal first
        if os.getpid() != here:  # in a worker that was just forked
            return
        if asked.is_set():
            if num_distrib() > 1 and monotonic() - first < 2:  # sent by Slurm and again by the launcher
                return
            if hasattr(signal, 'SIGCHLD'):  # else torch's handler raises an error for each worker
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for worker in multiprocessing.active_children():
                worker.kill()
            raise KeyboardInterrupt
        asked.set()
        first = monotonic()
        if rank_distrib():
            return
        with suppress(OSError):  # stderr may be closed
            # not `print`: the signal may have interrupted one
            os.write(2, b'\nstopping after this batch; interrupt again to stop at once\n')

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # under nohup a signal stays ignored
    signals = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, ask) for signum in signals}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if asked.is_set():
        raise KeyboardInterrupt
