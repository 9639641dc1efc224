"""The states of all random generators, as a checkpoint keeps them: loadable without pickle, and of every process."""

import numpy as np
import torch
from fastai.torch_core import get_random_states, rank_distrib, set_random_states

from ranks import gathered


def all_random_states() -> list[dict]:
    """`get_random_states` of each rank in their order, numpy's as a tensor, since its arrays don't load as weights."""
    states = get_random_states()
    name, keys, *rest = states['numpy_state']
    return gathered({**states, 'numpy_state': [name, torch.from_numpy(keys.astype(np.int64)), *rest]})


def restore_random_states(states: list[dict]) -> None:
    """Put each rank's own back; where there are more ranks than there were, the new ones keep theirs."""
    if rank_distrib() >= len(states):
        return
    mine = states[rank_distrib()]
    name, keys, *rest = mine['numpy_state']
    cuda = mine['torch_cuda_state'][: torch.cuda.device_count()]  # of those that are still there
    numpy_state = name, keys.numpy().astype(np.uint32), *rest
    set_random_states(**{**mine, 'numpy_state': numpy_state, 'torch_cuda_state': cuda})
