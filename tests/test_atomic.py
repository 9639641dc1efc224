import pytest

from atomic import replacing


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / 'new folder' / 'a.txt'
    for text in ('one', 'two'):
        with replacing(file) as part:
            part.write_text(text)
            assert not file.exists() or file.read_text() == 'one'
        assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / 'a.txt'
    file.write_text('old')
    with pytest.raises(TypeError), replacing(file) as part:
        part.write_text('half') + None
    assert file.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(FileExistsError) as e, replacing(tmp_path / 'file/a.txt'):
        pass
    assert e.value.filename == str(tmp_path / 'file')
