"""Read numbers that a GPU computes, without waiting for it."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Readings:
    """A queue of tensors that are copied to the host. On a CPU each can be read at once.

    `tensor.item()` makes the host wait until the GPU has done all queued work; then the GPU waits for the host.
    """

    def __init__(self):
        self.queue = deque()

    def add(self, value: Tensor, note: Any = None) -> None:
        """Start to copy `value` to the host; `note` is returned with it."""
        copied = None
        if value.device.type == 'cuda':
            value, copied = value.to('cpu', non_blocking=True), torch.cuda.Event()
            copied.record()
        self.queue.append((value.cpu(), note, copied))

    def read(self, wait: bool = False) -> Iterator[tuple[Tensor, Any]]:
        """Yield the values that have arrived with their notes, in order; with `wait`, all of them."""
        while self.queue:
            value, note, copied = self.queue[0]
            if copied and not copied.query():
                if not wait:
                    return
                copied.synchronize()
            self.queue.popleft()
            yield value.clone() if copied else value, note  # a clone, since pinned memory is scarce
