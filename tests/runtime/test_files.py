import hashlib
import os

import pytest

from runtime.files import fingerprint, replacing, sha256


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    file = tmp_path / 'new folder' / 'a.txt'
    for text in ('one', 'two'):
        with replacing(file) as part:
            part.write_text(text)
            assert not file.exists() or file.read_text() == 'one'
        assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_leaves_only_the_old_file(tmp_path):
    file = tmp_path / 'a.txt'
    file.write_text('old')
    with pytest.raises(TypeError), replacing(file) as part:
        part.write_text('half') + None
    assert file.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(FileExistsError) as e, replacing(tmp_path / 'file/a.txt'):
        pass
    assert e.value.filename == str(tmp_path / 'file')


@pytest.mark.parametrize('size', [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 200_000])
def test_sha256_of_any_size(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / 'a').write_bytes(content)
    assert sha256(tmp_path / 'a') == hashlib.sha256(content).hexdigest()
    assert fingerprint(tmp_path, [tmp_path / 'a']) == hashlib.sha256(b'a\0%d\0' % size + content).hexdigest()


def test_what_is_no_file_has_no_sha256(tmp_path):
    os.mkfifo(tmp_path / 'pipe')  # opening it would wait
    (tmp_path / 'loop').symlink_to('loop')
    assert [sha256(tmp_path / name) for name in ('pipe', 'loop', 'none', '')] == 4 * [None]


def test_fingerprint_of_a_relative_folder(tmp_path, monkeypatch):
    file = tmp_path / 'a/b.png'
    file.parent.mkdir()
    file.write_bytes(b'12')
    expected = hashlib.sha256(b'a/b.png\x002\x0012').hexdigest()
    monkeypatch.chdir(tmp_path)
    here = type(tmp_path)()
    assert fingerprint(here, [here / 'a/b.png']) == fingerprint(tmp_path, [file]) == expected
    with pytest.raises(ValueError, match='is not in the subpath'):
        fingerprint(tmp_path / 'b', [file])
