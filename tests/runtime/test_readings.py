from types import SimpleNamespace

import pytest
import torch

from runtime.readings import Readings


class OnGPU:
    """A tensor on a GPU; its copy to the host has its value only once the GPU is done."""

    device = torch.device('cuda')

    def __init__(self, value, gpu):
        self.value, self.gpu, self.host = value, gpu, torch.tensor(0.0)

    def to(self, device, non_blocking):
        assert (device, non_blocking) == ('cpu', True)
        self.gpu.queue.append(lambda: self.host.fill_(self.value))
        return self.host


@pytest.fixture
def gpu(monkeypatch):
    """A GPU whose work is done by `gpu.work(n)`, or when the host waits."""
    gpu = SimpleNamespace(queue=[], done=0, waits=0)

    def work(n):
        for do in gpu.queue[:n]:
            do()
            gpu.done += 1
        del gpu.queue[:n]

    class Event:
        def record(self):
            self.at = gpu.done + len(gpu.queue)

        def query(self):
            return gpu.done >= self.at

        def synchronize(self):
            gpu.waits += 1
            work(self.at - gpu.done)

    gpu.work = work
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    return gpu


def test_on_a_cpu_each_value_can_be_read_at_once():
    readings = Readings()
    for i in range(3):
        readings.add(torch.tensor(i / 2), i)
    assert [*readings.read()] == [(0.0, 0), (0.5, 1), (1.0, 2)]
    assert [*readings.read()] == [*readings.read(wait=True)] == []


def test_values_of_a_gpu_are_read_in_order_once_they_are_there_without_a_wait(gpu):
    readings = Readings()
    for i in range(5):
        readings.add(OnGPU(i / 2, gpu), i)
    assert [*readings.read()] == []
    gpu.work(2)
    assert [*readings.read()] == [(0.0, 0), (0.5, 1)]
    assert [*readings.read()] == []
    gpu.work(1)
    readings.add(OnGPU(2.5, gpu), 5)
    assert gpu.waits == 0
    assert [*readings.read(wait=True)] == [(1.0, 2), (1.5, 3), (2.0, 4), (2.5, 5)]
    assert gpu.waits == 3


def test_a_value_stays_when_its_pinned_memory_is_used_again(gpu):
    readings, value = Readings(), OnGPU(1.5, gpu)
    readings.add(value)
    ((read, _),) = readings.read(wait=True)
    value.host.fill_(9.0)
    assert read == 1.5
