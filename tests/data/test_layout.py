import os
import re
import sys
from pathlib import Path

import pytest

from data import layout
from data.layout import find_classes, find_splits
from runtime.errors import UserError


def made(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def laid_out(path):
    splits = find_splits(path)
    return {split: folder.relative_to(path).as_posix() for split, folder in splits.items()}, find_classes(path, splits)


def refusal(path):
    with pytest.raises(UserError) as e:
        laid_out(path)
    assert '\n' not in str(e.value)
    return str(e.value).replace(str(path), 'DATA')


def images(*folders):
    return [f'{folder}/{name}/a.png' for folder in folders for name in ('dog', 'cat')]


@pytest.mark.parametrize(('folders', 'splits'), [
    (['train', 'test'], {'train': 'train', 'test': 'test'}),
    (['train', 'valid', 'test'], {'train': 'train', 'valid': 'valid', 'test': 'test'}),
    (['test', 'val', 'train'], {'train': 'train', 'valid': 'val', 'test': 'test'}),
    (['train', 'test', 'extra'], {'train': 'train', 'test': 'test'}),  # extra/ is ignored
    (['.'], {'train': '.'}),
    (['train'], {'train': 'train'}),
    (['train', 'val'], {'train': 'train', 'test': 'val'}),  # as Imagenette
])  # fmt: skip
def test_each_layout(tmp_path, folders, splits):
    assert laid_out(made(tmp_path, *images(*folders), '.hidden/a.png', 'labels.csv')) == (splits, ['cat', 'dog'])


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    assert laid_out(made(tmp_path, 'Train/a.png', 'bus/a.png', 'tram/a.png')) == (
        {'train': '.'},
        ['Train', 'bus', 'tram'],
    )


A_FIFTH = 'a fifth of each class then becomes the test set'
LAYOUTS = '--data takes a folder of train/<class>/ and test/<class>/, perhaps valid/<class>/ too, or of <class>/ alone'


@pytest.mark.parametrize(('files', 'said'), [
    (images('test'),
     'DATA has test/, but no train/: add the training images as train/<class>/, or pass --data DATA/test '
     f'({A_FIFTH})'),
    (images('train', 'val', 'valid', 'test'), 'DATA has both val/ and valid/: rename the one not to use'),
    (images('Train', 'Test'), 'DATA/Test is not used: if it is test/, rename it'),
    (images('train', 'validation', 'test'), 'DATA/validation is not used: if it is valid/, rename it'),
    (images('training', 'test'), 'DATA/training is not used: if it is train/, rename it'),
    ([*images('photos'), 'other/a.png'],
     'DATA/photos has only folders inside, no images: is that the data set? Then pass --data DATA/photos'),
    ([*images('photos/train', 'photos/test'), 'docs/a.pdf'],
     'DATA/photos has only folders inside, no images: is that the data set? Then pass --data DATA/photos'),
    ([*images('a'), 'b/bar/a.png'],  # as in Places365
     "DATA/a has only folders inside, but a class's images lie directly in its folder: if the folders inside are the "
     'classes, move them up into DATA; is it the data set? Then pass --data DATA/a'),
    (images('train/a', 'train/b', 'test/a', 'test/b'),
     "DATA/train/a has only folders inside, but a class's images lie directly in its folder: if the folders inside are "
     'the classes, move them up into DATA/train'),
    (['a.png', 'b.png'],
     'DATA has no class folders: sort its images into a folder for each of two or more classes; ' + LAYOUTS),
    (['cat/a.png'],
     'DATA has only one class folder, cat/: sort its images into a folder for each of two or more classes; ' + LAYOUTS),
    (['train/a.png', 'test/a.png'],
     'DATA/train has no class folders: sort its images into a folder for each of two or more classes; ' + LAYOUTS),
    (['train/a.png', 'bus/a.png', 'test/a.png'],
     'DATA: test/ and train/ have no class folders inside. If they are classes, rename them, for '
     'example to test_/; if they are splits, sort their images into class folders'),
    ([*images('train', 'test'), 'val/a.png'],
     'DATA/val has no class folders, so its images have no labels: sort them into val/<class>/, or pass '
     f'--data DATA/train ({A_FIFTH})'),
    ([*images('train', 'test'), 'train/emu/a.png'],
     'DATA/train/emu has no counterpart in test/: each class needs images in both. Add some there, or move this folder '
     'out of train/'),
    ([*images('train', 'test'), 'valid/cat/a.png'],
     'DATA/train/dog has no counterpart in valid/: each class needs images in both. Add some there, or move this '
     'folder out of train/'),
])  # fmt: skip
def test_near_misses_are_reported_with_the_way_out(tmp_path, files, said):
    assert refusal(made(tmp_path, *files)) == said


def test_a_test_folder_without_classes_is_unlabelled(tmp_path):
    made(tmp_path, *images('train'), 'test/a.png')  # as on Kaggle
    splits = {split: folder.name for split, folder in find_splits(tmp_path).items()}
    assert splits == {'train': 'train', 'unlabelled': 'test'}
    made(tmp_path, *images('val'))
    splits = {split: folder.name for split, folder in find_splits(tmp_path).items()}
    assert splits == {'train': 'train', 'test': 'val', 'unlabelled': 'test'}


def test_no_message_tells_anyone_to_delete_images():
    for file in Path(layout.__file__).parent.glob('*.py'):
        assert not re.search(r'\b(delete|erase)\b', file.read_text(encoding='utf-8')), file


def test_a_class_that_is_a_broken_link_is_named(tmp_path):
    made(tmp_path, *images('.'))
    (tmp_path / 'emu').symlink_to(tmp_path / 'unmounted')
    assert refusal(tmp_path) == 'DATA/emu is a broken link: fix it, or move it away'


def test_a_class_whose_name_is_too_long_for_file_names(tmp_path):
    made(tmp_path, *images('.'))
    (tmp_path / ('e' * 201)).mkdir()
    assert 'a class name may have at most 200 bytes, rename it' in refusal(tmp_path)


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere names are Unicode')
def test_a_class_whose_name_is_not_utf8_is_named(tmp_path):
    made(tmp_path, *images('.'))
    (tmp_path / os.fsdecode(b'em\xff')).mkdir()
    assert refusal(tmp_path) == r'DATA/em\udcff: its name is not UTF-8, rename it'
