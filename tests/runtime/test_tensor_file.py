import pickle
import random

import pytest
import torch

from runtime.errors import UserError
from runtime.tensor_file import load_tensors, save_tensors


def write(file):
    torch.manual_seed(0)
    content = {'weights': torch.randn(50, 50), 'nested': [{'steps': torch.arange(7)}, 0.1, None, 'text']}
    save_tensors(content, file)
    return content


def same(a, b):
    return torch.equal(a['weights'], b['weights']) and torch.equal(a['nested'][0]['steps'], b['nested'][0]['steps'])


def test_loading_returns_the_saved_content(tmp_path):
    content = write(tmp_path / 'a.pth')
    loaded = load_tensors(tmp_path / 'a.pth')
    assert same(loaded, content)
    assert loaded['nested'][1:] == content['nested'][1:]
    assert same(torch.load(tmp_path / 'a.pth', weights_only=True), content)


def test_strides_are_kept(tmp_path):
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save_tensors(x, tmp_path / 'a.pth')
    assert load_tensors(tmp_path / 'a.pth').stride() == x.stride()


def test_a_truncated_file_is_damaged(tmp_path):
    file = tmp_path / 'a.pth'
    write(file)
    whole = file.read_bytes()
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r'a\.pth is damaged: \S'):
            load_tensors(file)


def test_a_flipped_bit_is_detected_or_harmless(tmp_path):
    file, rng, seen = tmp_path / 'a.pth', random.Random(0), 0
    content = write(file)
    whole = file.read_bytes()
    # random bits, and each bit of the zip archive's end record
    flips = [rng.randrange(8 * len(whole)) for _ in range(600)] + list(range(8 * (len(whole) - 22), 8 * len(whole)))
    for bit in flips:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            assert same(load_tensors(file), content)
        except UserError:
            seen += 1
    # 10,056 of the bytes are tensor data, where each flip must be detected
    assert seen >= 600 * 10_056 / len(whole) * 0.9


def test_a_missing_file_is_not_reported_as_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / 'none.pth')


def test_code_in_a_file_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (tmp_path / 'harm').touch, ()

    for name, write_it in (('zip', torch.save), ('pickle', lambda o, f: f.write_bytes(pickle.dumps(o)))):
        write_it({'weights': Harmful()}, tmp_path / name)
        with pytest.raises(UserError, match='is damaged'):
            load_tensors(tmp_path / name)
    assert not (tmp_path / 'harm').exists()
