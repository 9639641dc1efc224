import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, tiny_net

from data.prediction import batches, find_files, probabilities
from training.saved_run import load_model


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('b.png', 'a.jpg', 'in/c.png', 'in/deeper/d.png', 'in/.hidden.png', 'in/.hidden/e.png', '[a].png'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path('nothing').mkdir()


@pytest.mark.parametrize(('arguments', 'files'), [
    (['b.png', 'a.jpg', 'b.png'], ['b.png', 'a.jpg']),
    (['in'], ['in/c.png', 'in/deeper/d.png']),
    (['*.png'], ['[a].png', 'b.png']),
    (['[a].png'], ['[a].png']),  # an existing file wins over the pattern
    (['**/*.png'], ['[a].png', 'b.png', 'in/c.png', 'in/deeper/d.png']),
    (['i*', 'in/c.png'], ['in/c.png', 'in/deeper/d.png']),
])  # fmt: skip
def test_finds_files_folders_and_globs_each_once(tree, arguments, files):
    assert find_files(arguments) == ([Path(file) for file in files], [])


def test_a_link_to_a_parent_folder_is_not_followed(tree):
    os.symlink('..', 'in/deeper/back')
    assert find_files(['in']) == ([Path('in/c.png'), Path('in/deeper/d.png')], [])


def test_paths_without_files_are_reported(tree):
    files, bad = find_files(['no.png', 'nothing', 'b.png'])
    assert files == [Path('b.png')]
    assert [(str(file), reason.split(',')[0]) for file, reason in bad] == [
        ('no.png', 'there is no such file or folder'), ('nothing', 'a folder without files'),
    ]  # fmt: skip


def test_a_name_may_begin_with_a_tilde(tree):
    Path('~$b.png').touch()
    assert find_files(['~$b.png']) == ([Path('~$b.png')], [])
    assert [reason.split(',')[0] for _, reason in find_files(['~nobody/b.png', ''])[1]] == [
        'there is no such file or folder'
    ] * 2


@pytest.mark.skipif(not hasattr(os, 'geteuid') or not os.geteuid(), reason='root may read everything')
def test_folders_that_cannot_be_read_are_named(tree):
    Path('in/deeper').chmod(0)
    assert find_files(['in']) == ([Path('in/c.png')], [(Path('in/deeper'), 'Permission denied')])
    Path('in/deeper').chmod(0o700)


def test_home_is_expanded(tree, monkeypatch):
    monkeypatch.setenv('HOME', os.getcwd())
    assert find_files(['~/b.png']) == ([Path.cwd() / 'b.png'], [])


def test_files_that_cannot_be_used_do_not_stop_the_others(run, folder):
    files = sorted((folder / 'test').rglob('*.png'))
    files[1].write_bytes(b'')
    for file in files[4:8]:  # a whole batch
        file.write_bytes(b'x')
    learn = load_model(run)
    got = list(batches(learn, files))
    assert [len(x) for _, x, _ in got] == [3, 0, 4]
    assert [file for good, _, _ in got for file in good] == [files[0], *files[2:4], *files[8:]]
    bad = [o for _, _, unusable in got for o in unusable]
    assert [file for file, _ in bad] == [files[1], *files[4:8]]
    assert bad[0] == (files[1], 'empty')
    assert bad[1][1].startswith('not a JPEG')


def test_probabilities_are_those_of_the_kept_weights(run, folder):
    model = tiny_net(3, 1, 0.0)
    model.load_state_dict(torch.load(run / 'models/best.pth', weights_only=True))
    files = sorted((folder / 'test').rglob('*.png'))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(o)[:, None, None] for o in (TINY.mean, TINY.std))
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy((pixels - mean) / std).float()).softmax(1)
    assert expected.std(0).min() > 0.01  # the predictions differ between images
    learn = load_model(run)
    got = torch.cat([probabilities(learn, x) for _, x, _ in batches(learn, files)])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
