from types import SimpleNamespace

import torch

from interpret.per_class import per_class


def test_by_hand():
    # cat: 3 images, 2 found, 1 false; dog: 2 images, 1 found, 2 false; emu: 1 image, never predicted; yak: no image
    targs, decoded = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 1])
    table = per_class(SimpleNamespace(vocab=['cat', 'dog', 'emu', 'yak'], targs=targs, decoded=decoded))
    assert table.to_dict('list') == {
        'class': ['cat', 'dog', 'emu', 'yak'],
        'precision': [2 / 3, 1 / 3, 0.0, 0.0],
        'recall': [2 / 3, 1 / 2, 0.0, 0.0],
        'f1': [2 / 3, 2 / 5, 0.0, 0.0],
        'images': [3, 2, 1, 0],
    }
