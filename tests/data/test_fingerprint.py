import hashlib

import pytest
from tiny import tiny_dls

from data.fingerprint import fingerprint_images, refuse_other_images
from runtime.errors import UserError


def digest(dls, folder, describe):
    names_and_contents = [
        (file.relative_to(folder).as_posix(), file.read_bytes()) for dl in dls.loaders for file in dl.dataset.items
    ]
    return hashlib.sha256(b''.join(describe(*each) for each in names_and_contents)).hexdigest()


@pytest.mark.parametrize('kwargs', [{}, {'valid': 'test'}, {'fraction': 0.5, 'seed': 1}])
def test_fingerprint_covers_names_contents_and_order(folder, kwargs):
    dls = tiny_dls(folder, **kwargs)
    expected = digest(dls, folder, lambda name, content: f'{name}\0{hashlib.sha256(content).hexdigest()}\n'.encode())
    assert dls.fingerprint == fingerprint_images(dls) == f'sha256:{expected}'
    del dls.fingerprint  # as in DataLoaders that aren't from get_dls
    assert fingerprint_images(dls) == f'sha256:{expected}'


def test_an_older_run_is_compared_in_the_form_it_has(folder, tmp_path):
    dls = tiny_dls(folder)
    older = digest(dls, folder, lambda name, content: f'{name}\0{len(content)}\0'.encode() + content)
    assert fingerprint_images(dls, like=older) == older
    refuse_other_images(dls, older, tmp_path)
    with pytest.raises(UserError, match='does not have the images'):
        refuse_other_images(dls, '0' * 64, tmp_path)
