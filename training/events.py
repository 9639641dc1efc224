"""Call only the callbacks that handle an event."""

from fastai.callback.core import Callback, _inner_loop
from fastai.learner import Learner


class EventTable(Learner):
    """fastai's Learner with a table of the callbacks that handle each event of a batch.

    fastai sorts all callbacks and calls every one at each of the eight events of a batch, mostly in vain: over half of
    its time per batch beside the network (benchmarks/host.py). The table is made anew at each other event (the start
    of an epoch's training, for example), and when callbacks were added or removed. Only an `order` or an instance's
    method that changes within these events is noticed later than in fastai.
    """

    _listed, _table = (), {}

    def __call__(self, event_name):
        """Call the callbacks that handle the event, in order; each decides by `run` and its like whether it acts."""
        if event_name not in _inner_loop:
            self._listed, self._table = (), {}  # and no reference to a callback that is removed after this
            return super().__call__(event_name)
        if self._listed != self.cbs.items:  # compares identities first
            self._listed, self._table = [*self.cbs], {}
        if event_name not in self._table:
            self._table[event_name] = [cb for cb in self.cbs.sorted('order') if _handles(cb, event_name)]
        for cb in self._table[event_name]:
            cb(event_name)


def _handles(cb: Callback, event_name: str) -> bool:
    return type(cb).__call__ is not Callback.__call__ or hasattr(cb, event_name)
