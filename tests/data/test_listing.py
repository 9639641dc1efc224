import shutil

import pandas as pd
import pytest
from PIL import Image
from tiny import tiny_dls, write_images

from data.duplicates import COLUMNS
from data.listing import list_images
from data.sources import get_source
from data.verify import check_images
from runtime.errors import UserError


def names(files, root):
    return [file.relative_to(root).as_posix() for file in files]


def test_a_folder_and_its_labels(folder):
    listing = list_images(folder)
    assert (listing.root, listing.classes, listing.unlabelled) == (folder, ['blue', 'green', 'red'], [])
    assert {split: {name: len(files) for name, files in o.items()} for split, o in listing.files.items()} == {
        'train': {'blue': 8, 'green': 8, 'red': 8},
        'test': {'blue': 4, 'green': 4, 'red': 4},
    }
    assert {listing.label(file) for file in listing.files['test']['red']} == {'red'}


def test_val_without_test_is_the_test_set(folder, capsys):
    (folder / 'test').rename(folder / 'val')
    dls = tiny_dls(folder)
    assert [len(dl.dataset) for dl in dls.loaders] == [18, 6, 12]
    assert {f.parents[1].name for f in dls.valid_ds.items} == {'train'}
    assert {f.parents[1].name for f in dls[2].dataset.items} == {'val'}
    assert capsys.readouterr().out == 'there is no test/: the 12 images of val/ are the test set\n'
    dls = tiny_dls(folder, valid='test')
    assert list(dls.valid_ds.items) == list(dls[2].dataset.items)


def test_a_flat_test_folder_is_not_scored(folder, capsys):
    files = sorted((folder / 'test').glob('*/*'))
    for file in files:
        file.rename(folder / f'test/{file.parent.name}{file.name}')
    for name in 'red', 'green', 'blue':
        (folder / 'test' / name).rmdir()
    dls = tiny_dls(folder)
    assert [len(dl.dataset) for dl in dls.loaders] == [14, 5, 5]
    assert {f.parents[1].name for dl in dls.loaders for f in dl.dataset.items} == {'train'}
    assert names(dls.unlabelled, folder)[:2] == ['test/blue00.png', 'test/blue01.png']
    assert len(dls.unlabelled) == 12
    assert capsys.readouterr().out == (
        'test/ has no class folders, so its 12 images are predicted, not scored: '
        '5 of the 24 images are the test set, the same in every run\n'
    )


def test_a_wrapped_folder_is_found(folder, tmp_path):
    (tmp_path / 'a/b').mkdir(parents=True)
    (tmp_path / 'a/readme.txt').touch()
    folder.rename(tmp_path / 'a/b/images')
    assert get_source(tmp_path / 'a') == tmp_path / 'a/b/images'
    assert get_source(tmp_path / 'a/b/images/train') == tmp_path / 'a/b/images/train'


@pytest.fixture
def flat(tmp_path):
    """A folder of images beside each other, and a function that writes its CSV."""
    images = write_images(tmp_path / 'made')
    (tmp_path / 'flat/sub').mkdir(parents=True)
    rows = []
    for file in sorted(images.glob('*/*/*')):
        split, label, name = file.relative_to(images).parts
        shutil.copy(file, tmp_path / f'flat/sub/{split}{label}{name}')
        rows.append({'file': f'sub/{split}{label}{name}', 'label': label, 'split': split})
    table = pd.DataFrame(rows)

    def write(table=table, text=None):
        file = tmp_path / 'flat/labels.csv'
        file.write_text(table.to_csv(index=False) if text is None else text, encoding='utf-8')
        return file

    return table, write


def test_a_csv_trains_as_the_folders_do(flat, folder):
    _, write = flat
    dls, same = tiny_dls(write()), tiny_dls(folder)
    assert list(dls.vocab) == list(same.vocab)
    for mine, theirs in zip(dls.loaders, same.loaders, strict=True):
        assert names(mine.dataset.items, folder.parent / 'flat') == [
            f'sub/{"".join(name.split("/"))}' for name in names(theirs.dataset.items, folder)
        ]
        assert [int(y) for _, y in mine.dataset] == [int(y) for _, y in theirs.dataset]
    assert dls.class_counts == same.class_counts == {'blue': 6, 'green': 6, 'red': 6}
    assert dls.path == folder.parent / 'flat'
    x, y = dls.test_dl(dls[2].dataset.items, with_labels=True).one_batch()
    assert y.tolist() == [0] * 4
    assert len(x) == 4


def test_a_csv_without_splits_and_with_spaces_and_a_mark(flat):
    table, write = flat
    text = '\ufefflabel, file\n' + ''.join(f'01{o.label}, ./{o.file}\n' for o in table.itertuples())
    listing = list_images(write(text=text))
    assert listing.classes == ['01blue', '01green', '01red']
    images = check_images(write(text=text))
    assert (len(images.train), len(images.test)) == (29, 7)  # a fifth of 36
    assert images.notes == ['there is no test/: 7 of the 36 images are the test set, the same in every run']


def test_valid_rows_without_test_rows_are_the_test_set(flat):
    table, write = flat
    images = check_images(write(table.assign(split=table['split'].replace('test', 'val'))))
    assert (len(images.train), images.valid, len(images.test)) == (24, [], 12)
    assert images.notes == ['there is no test/: the 12 images of valid/ are the test set']


def test_another_label_is_another_fingerprint(flat):
    table, write = flat
    first = tiny_dls(write()).fingerprint
    assert tiny_dls(write(table.assign(note='x'))).fingerprint == first
    # red and green change their names: files, their order and contents stay
    swapped = table.assign(label=table.label.replace({'green': 'grey'}))
    assert tiny_dls(write(swapped)).fingerprint != first


def test_duplicates_have_their_labels(flat, tmp_path):
    _, write = flat
    shutil.copy(tmp_path / 'flat/sub/trainred00.png', tmp_path / 'flat/sub/testblue00.png')
    dls = tiny_dls(write(), valid='test')
    (row,) = dls.duplicates.to_dict('records')
    expected = ('sub/testblue00.png', 'test', 'blue', 'sub/trainred00.png', 'train', 'red')
    assert tuple(row[name] for name in COLUMNS) == expected


def test_a_missing_file_is_a_bad_file(flat):
    table, write = flat
    file = write(pd.concat([table, pd.DataFrame([{'file': 'no.png', 'label': 'red', 'split': 'train'}])]))
    with pytest.raises(UserError, match=r"^1 file of .*flat can't be used: no\.png \(No such file or directory\)"):
        check_images(file)
    assert [bad.name for bad, _ in check_images(file, skip_bad=True).bad] == ['no.png']


HEAD = 'file,label,split\n'


@pytest.mark.parametrize(('text', 'said'), [
    ('', 'has no rows of the split train'),
    ('name,label\na.png,cat\n', 'there is no column file'),
    ('file;label\na.png;cat\n', 'there is no column file'),
    ('file,label\na.png,cat\nb.png\n', 'line 3 has another number of columns than the first line'),
    ('file,label\na.png,cat,more\n', 'line 2 has another number of columns than the first line'),
    ('file,label\n/etc/a.png,cat\n', "line 2: '/etc/a.png' is not a path within the folder of this CSV"),
    ('file,label\na/../../b.png,cat\n', "line 2: 'a/../../b.png' is not a path within the folder of this CSV"),
    ('file,label\n..,cat\n', "line 2: '..' is not a path within the folder of this CSV"),
    ('file,label\n,cat\n', "line 2: '' is not a path within the folder of this CSV"),
    ('file,label\na.png,cat\n./a.png,dog\n', "line 3: './a.png' is there a second time"),
    ('file,label\na.png,\n', "line 2: '' is not a label of 1 to 200 bytes without slashes"),
    ('file,label\na.png,../x\n', "line 2: '../x' is not a label of 1 to 200 bytes without slashes"),
    (f'file,label\na.png,{"x" * 201}\n', 'is not a label of 1 to 200 bytes without slashes'),
    (HEAD + 'a.png,cat,dev\n', "line 2: 'dev' is not a split: train, valid, val, test"),
    (HEAD + 'a.png,cat,\n', "line 2: '' is not a split: train, valid, val, test"),
    ('file,label\na.png,"cat\n', ': unexpected end of data'),
    (HEAD + 'a.png,cat,test\n', 'has no rows of the split train: add some'),
    (HEAD + 'a.png,cat,train\n', 'has fewer than two classes in the split train: add rows of others'),
    (HEAD + 'a.png,cat,train\nb.png,dog,train\nc.png,cat,test\n',
     'the class dog has rows of the split train, but none of test: each class needs images in both'),
    (HEAD + 'a.png,cat,train\nb.png,dog,train\nc.png,emu,val\n',
     'the class cat has rows of the split train, but none of valid: each class needs images in both'),
])  # fmt: skip
def test_an_invalid_csv_is_a_one_line_error(flat, text, said):
    _, write = flat
    file = write(text=text)
    with pytest.raises(UserError) as e:
        list_images(file)
    assert said in str(e.value)
    assert '\n' not in str(e.value)
    assert str(file) in str(e.value)


def test_a_csv_that_is_not_text_is_a_one_line_error(tmp_path):
    Image.new('RGB', (16, 16)).save(tmp_path / 'a.csv', 'png')
    with pytest.raises(UserError, match=r'a\.csv is not a valid CSV of files and labels \(UnicodeDecodeError') as e:
        list_images(tmp_path / 'a.csv')
    assert '\n' not in str(e.value)


def test_a_column_that_may_be_meant_as_split_is_refused(folder):
    (folder / 'labels.csv').write_text('file,label,Split\ntrain/red/00.png,red,train\n')
    with pytest.raises(UserError, match="the column 'Split' is not used: rename it to split, or remove it"):
        list_images(folder / 'labels.csv')
