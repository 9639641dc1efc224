"""The states of all random generators in every process, in a form that a checkpoint can store without pickle."""

import numpy as np
import torch
from fastai.torch_core import get_random_states, rank_distrib, set_random_states

from runtime.processes import gathered


def all_random_states() -> list[dict]:
    """`get_random_states` of each rank, in order; NumPy's array as a tensor, since `weights_only` refuses arrays."""
    states = get_random_states()
    name, keys, *rest = states['numpy_state']
    return gathered({**states, 'numpy_state': [name, torch.from_numpy(keys.astype(np.int64)), *rest]})


def restore_random_states(states: list[dict]) -> None:
    """Restore this rank's state from `states`; a rank that didn't exist at the time of saving keeps its own."""
    if rank_distrib() >= len(states):
        return
    mine = states[rank_distrib()]
    name, keys, *rest = mine['numpy_state']
    cuda = mine['torch_cuda_state'][: torch.cuda.device_count()]  # one each, as far as the GPUs still exist
    numpy_state = name, keys.numpy().astype(np.uint32), *rest
    set_random_states(**{**mine, 'numpy_state': numpy_state, 'torch_cuda_state': cuda})
