import pytest

from runtime.files import replacing


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
