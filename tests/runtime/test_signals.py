import math
import signal
import threading

import pytest

from runtime.signals import deferred_interrupts

pytestmark = pytest.mark.usefixtures('handlers')


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_stops(signum, capfd):
    def twice():
        with deferred_interrupts() as asked:
            assert not asked.is_set()
            signal.raise_signal(signum)
            assert asked.is_set()
            assert 'interrupt again to stop at once' in capfd.readouterr().err
            signal.raise_signal(signum)
            pytest.fail('the second did not end it')

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signum) is signal.default_int_handler


def test_a_signal_forwarded_by_the_launcher_is_not_the_second(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')

    def again():
        with deferred_interrupts() as asked:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # sent by Slurm and again by the launcher
            assert asked.is_set()
            monkeypatch.setattr('runtime.signals.monotonic', lambda: math.inf)
            signal.raise_signal(signal.SIGTERM)
            pytest.fail('the second did not end it')

    with pytest.raises(KeyboardInterrupt):
        again()


def test_an_unhandled_request_interrupts_when_the_block_ends():
    reached = []

    def once():
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            reached.append('the end')

    with pytest.raises(KeyboardInterrupt):
        once()
    assert reached == ['the end']


def test_without_a_signal_nothing_happens():
    with deferred_interrupts() as asked:
        pass
    assert not asked.is_set()


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupts() as asked:
        signal.raise_signal(signal.SIGINT)
    assert not asked.is_set()


def test_another_thread_keeps_the_handlers():
    found = []

    def work():
        with deferred_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
