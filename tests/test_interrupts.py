import math
import signal
import threading

import pytest

from interrupts import deferred_interrupts

pytestmark = pytest.mark.usefixtures('handlers')


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_ends(signum, capfd):
    def twice():
        with deferred_interrupts() as asked:
            assert not asked.is_set()
            signal.raise_signal(signum)
            assert asked.is_set()
            assert 'once more to stop at once' in capfd.readouterr().err
            signal.raise_signal(signum)
            pytest.fail('the second did not end it')

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signum) is signal.default_int_handler


def test_what_the_launcher_passes_on_does_not_count_as_the_second(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')

    def again():
        with deferred_interrupts() as asked:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # Slurm tells all processes, and the launcher them as well
            assert asked.is_set()
            monkeypatch.setattr('interrupts.monotonic', lambda: math.inf)
            signal.raise_signal(signal.SIGTERM)
            pytest.fail('the second did not end it')

    with pytest.raises(KeyboardInterrupt):
        again()


def test_what_nobody_heeded_comes_at_the_end():
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


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupts() as asked:
        signal.raise_signal(signal.SIGINT)
    assert not asked.is_set()


def test_in_another_thread_the_handlers_stay():
    found = []

    def work():
        with deferred_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
