import os
import shutil

import pandas as pd
from tiny import tiny_dls

from data.duplicates import COLUMNS, about_leaked, leaked, write_duplicates
from runtime import files


def copies(dls) -> set[tuple]:
    return {*dls.duplicates.itertuples(index=False, name=None)}


def copy(folder, source, *targets):
    for target in targets:
        shutil.copy(folder / source, folder / target)


def test_different_images_are_no_duplicates(folder, capsys):
    dls = tiny_dls(folder)
    assert list(dls.duplicates) == list(COLUMNS)
    assert len(dls.duplicates) == 0
    assert 'duplicate' not in capsys.readouterr().out


def test_copies_are_found_by_content_and_the_serious_ones_counted(folder, capsys):
    copy(folder, 'train/red/00.png', 'test/red/other.png', 'test/red/again.png', 'train/blue/twin.png')
    copy(folder, 'train/green/01.png', 'train/green/harmless.png')
    copy(folder, 'test/blue/00.png', 'test/blue/only_there.png')
    dls = tiny_dls(folder, valid='test')  # so that nothing is drawn
    twin = 'train/blue/twin.png', 'train', 'blue'  # comes first: files are sorted by class
    assert copies(dls) == {
        ('train/red/00.png', 'train', 'red', *twin),
        ('test/red/other.png', 'test', 'red', *twin),
        ('test/red/again.png', 'test', 'red', *twin),
        ('train/green/harmless.png', 'train', 'green', 'train/green/01.png', 'train', 'green'),
        ('test/blue/only_there.png', 'test', 'blue', 'test/blue/00.png', 'test', 'blue'),
    }
    assert leaked(dls.duplicates) == {'test/red/other.png', 'test/red/again.png'}
    assert capsys.readouterr().out.splitlines()[0] == (
        'duplicate images: 5 (test images that are in the training or validation set too: 2; in two classes: 3); '
        "dls.duplicates lists them, and so does duplicates.csv in a run's folder"
    )


def test_copies_that_distort_nothing_are_only_counted(folder, capsys):
    copy(folder, 'train/green/01.png', 'train/green/copy.png')
    tiny_dls(folder, valid='test')
    assert capsys.readouterr().out.startswith('duplicate images: 1; dls.duplicates lists them')


def test_held_out_images_count_as_validation(folder, capsys):
    held = tiny_dls(folder).valid_ds.items[0]
    (folder / 'test/red/copy.png').write_bytes(held.read_bytes())
    dls = tiny_dls(folder)
    assert copies(dls) == {
        ('test/red/copy.png', 'test', 'red', held.relative_to(folder).as_posix(), 'valid', held.parent.name)
    }
    assert leaked(dls.duplicates) == {'test/red/copy.png'}


def test_validation_images_in_the_training_set_are_counted(folder, capsys):
    shutil.copytree(folder / 'train', folder / 'valid')
    dls = tiny_dls(folder, valid=None)
    assert 'duplicate images: 24 (validation images that are in the training set too: 24); ' in capsys.readouterr().out
    assert {*dls.duplicates['split']} == {'valid'}
    assert leaked(dls.duplicates) == set()


def test_images_that_a_fraction_leaves_out_leak_nothing(folder):
    shutil.copytree(folder / 'train', folder / 'test', dirs_exist_ok=True)
    dls = tiny_dls(folder, fraction=0.5)
    used = {f.relative_to(folder / 'train').as_posix() for f in [*dls.train_ds.items, *dls.valid_ds.items]}
    assert len(used) == 12
    assert leaked(dls.duplicates) == {f'test/{name}' for name in used}


def test_a_later_start_reads_each_file_once(folder, monkeypatch):
    tiny_dls(folder)
    read, plain = [], files._blocks
    monkeypatch.setattr(files, '_blocks', lambda file: read.append(file) or plain(file))
    dls = tiny_dls(folder)
    images = [file for file in read if file.suffix == '.png']  # others are the program's own
    assert sorted(images) == sorted(file for dl in dls.loaders for file in dl.dataset.items)


def test_duplicates_csv_is_written_only_if_there_are_duplicates(folder, tmp_path):
    write_duplicates(tmp_path, tiny_dls(folder).duplicates)
    assert not (tmp_path / 'duplicates.csv').exists()
    name = os.fsdecode(b'caf\xe9.png')  # need not be UTF-8
    copy(folder, 'train/red/00.png', f'train/red/{name}')
    write_duplicates(tmp_path, tiny_dls(folder, valid='test').duplicates)
    table = pd.read_csv(tmp_path / 'duplicates.csv', encoding_errors='surrogateescape')
    assert list(table) == list(COLUMNS)
    assert [tuple(row) for row in table.to_numpy()] == [
        (f'train/red/{name}', 'train', 'red', 'train/red/00.png', 'train', 'red')
    ]


def test_accuracy_without_leaked_images_in_words():
    assert about_leaked(0, 12, 0.5) is None
    assert about_leaked(2, 12, 0.7) == (
        'without the 2 of 12 test images that are in the training or validation set too the test accuracy is 70.00%'
    )
    assert about_leaked(12, 12, None).startswith('all 12 test images are in the training or validation set too: ')
