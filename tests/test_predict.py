import csv
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from config.command_line import predict_parser
from data import prediction
from predict import as_table, main
from training.saved_run import load_model


def exit_code(*args, **kwargs):
    """Run `main` and return its exit code."""
    try:
        main(*args, **kwargs)
    except SystemExit as e:
        return e.code
    return 0


def test_json_has_the_learners_prediction_for_each_file_in_order(run, folder, capsys):
    bad = folder / 'test/red/bad.png'
    bad.write_bytes(b'')
    assert exit_code(str(run), ['no.png', str(folder / 'test/red'), str(folder / 'test/blue/00.png')], json=True) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)
    files = [*sorted((folder / 'test/red').iterdir()), folder / 'test/blue/00.png']
    assert [row['file'] for row in rows if row['file'] != 'no.png'] == [str(file) for file in files]
    learn = load_model(run)
    for row in rows:
        if 'error' in row:
            continue
        label, index, expected = learn.predict(row['file'])
        assert row['class'] == label
        assert row['probability'] == pytest.approx(expected[index].item(), abs=1e-5)
        by_class = dict(zip(learn.dls.vocab, expected.tolist(), strict=True))
        assert row['probabilities'] == pytest.approx(by_class, abs=1e-5)
    errors = {row['file']: row['error'] for row in rows if 'error' in row}
    assert errors[str(bad)] == 'empty'
    assert set(errors) == {'no.png', str(bad)}
    assert sorted(err.splitlines()) == [
        f'predict.py: {bad}: empty',
        'predict.py: 2 of 7 files could not be used',
        'predict.py: no.png: there is no such file or folder, and no match for it as a glob',
    ]


def test_table_has_the_most_probable_classes_first(run, folder, capsys):
    assert exit_code(str(run), [str(folder / 'test/*/0[01].png')]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ['file', '1st', '2nd', '3rd']
    assert len(lines) == 6
    assert err == ''
    for line in lines:
        file, *shown = line.split()
        expected = dict(zip(('blue', 'green', 'red'), load_model(run).predict(file)[2].tolist(), strict=True))
        order = sorted(expected, key=expected.get, reverse=True)
        assert shown[::2] == order
        assert [float(p.rstrip('%')) for p in shown[1::2]] == pytest.approx(
            [100 * expected[name] for name in order], abs=0.06
        )


def test_topk_chooses_the_number_of_classes(run, folder, capsys):
    for k, head in (1, ['file', '1st']), (2, ['file', '1st', '2nd']), (99, ['file', '1st', '2nd', '3rd']):
        assert exit_code(str(run), [str(folder / 'test/red')], topk=k) == 0
        head_line, *lines = capsys.readouterr().out.splitlines()
        assert head_line.split() == head
        assert {len(line.split()) for line in lines} == {2 * len(head) - 1}


def test_columns_are_named_by_ordinals():
    names = [f'{i:02}' for i in range(113)]
    head = as_table(names, {Path('a'): [1 / 113] * 113}, 113).split('\n')[0].split()
    assert [head[n] for n in (1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 23, 101, 111, 112)] == [
        '1st', '2nd', '3rd', '4th', '10th', '11th', '12th', '13th', '21st', '22nd', '23rd', '101st', '111th', '112th',
    ]  # fmt: skip


def test_a_csv_file_has_the_best_classes_of_each_file_and_the_errors(run, folder, tmp_path, capsys):
    (folder / 'test/red/00.png').rename(folder / 'test/red/=1+1.png')
    bad = folder / 'test/red/bad.png'
    bad.write_bytes(b'')
    table = tmp_path / 'new/predictions.csv'
    assert exit_code(str(run), [str(folder / 'test/red'), '=no.png'], csv=str(table), topk=2) == 0
    assert capsys.readouterr().out == ''
    with table.open(newline='', encoding='utf-8') as f:
        rows = {row['file']: row for row in csv.DictReader(f)}
    assert [*next(iter(rows.values()))] == ['file', 'class', 'probability', 'class_2', 'probability_2', 'error']
    assert rows[str(bad)] == dict.fromkeys(rows[str(bad)], '') | {'file': str(bad), 'error': 'empty'}
    assert rows["'=no.png"]['error'].startswith('there is no such file')
    learn = load_model(run)
    usable = [file for file in (folder / 'test/red').iterdir() if file != bad]
    assert len(rows) == len(usable) + 2 == 6
    for file in usable:
        row, p = rows[str(file)], learn.predict(file)[2].numpy()
        best, second = p.argsort()[:0:-1]
        assert (row['class'], row['class_2'], row['error']) == (learn.dls.vocab[best], learn.dls.vocab[second], '')
        assert [float(row[o]) for o in ('probability', 'probability_2')] == pytest.approx(
            [p[best], p[second]], abs=1e-5
        )


@pytest.mark.parametrize('k', ['0', '-1', 'x', '1.5'])
def test_topk_is_a_number_of_classes(k, capsys):
    with pytest.raises(SystemExit) as e:
        predict_parser().parse_args(['run', 'a.png', '--topk', k])
    assert e.value.code == 2
    assert re.fullmatch(r'predict\.py: argument --topk: .*\n', capsys.readouterr().err)


def test_exits_with_2_if_no_file_can_be_used(run, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    assert exit_code(str(run), [str(tmp_path / 'empty'), 'no.png']) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.splitlines()[-1] == 'predict.py: none of 2 files could be used'
    assert 'a folder without files' in err


def test_escape_codes_in_file_names_are_escaped(run, folder, tmp_path, capsys):
    images = tmp_path / 'of a stranger'
    images.mkdir()
    (folder / 'test/red/00.png').rename(images / 'a\x1b[2J\n.png')
    (images / 'b\x1b[2J.png').touch()
    assert exit_code(str(run), [str(images)]) == 0
    out, err = capsys.readouterr()
    assert '\x1b' not in out + err
    assert len(out.splitlines()) == len(err.splitlines()) == 2


def test_pictures_of_images_with_the_same_name_do_not_clash(run, folder, tmp_path, capsys):
    arguments = [f'{folder}/{name}/00.png' for name in ('test/red', 'train/../test/blue', 'train/red')]
    assert exit_code(str(run), arguments, gradcam=str(tmp_path / 'out/maps')) == 0
    pictures = sorted(o.relative_to(tmp_path / 'out/maps').as_posix() for o in (tmp_path / 'out').rglob('*.*'))
    assert pictures == ['test/blue/00.png.png', 'test/red/00.png.png', 'train/red/00.png.png']
    for picture in pictures:
        with Image.open(tmp_path / 'out/maps' / picture) as im:
            assert im.width > 3 * im.height  # the image and four layers


def test_a_picture_of_an_image_with_a_long_name_gets_a_shorter_name(run, folder, tmp_path, capsys):
    images = tmp_path / 'named'
    images.mkdir()
    names = ['a.jpg', 'x' * 251 + '.jpg', 'x' * 250 + 'y.jpg', 'ä' * 125 + '.jpg', 'z' * 247 + '.jpg']
    for name in names:
        (images / name).write_bytes((folder / 'test/red/00.png').read_bytes())
    assert exit_code(str(run), [str(images)], gradcam=str(tmp_path / 'maps')) == 0
    out, err = capsys.readouterr()
    assert err == ''
    assert {line.partition('  ')[0] for line in out.splitlines()[1:]} == {str(images / name) for name in names}
    digests = {name: hashlib.sha256(name.encode()).hexdigest()[:16] for name in names}
    assert {picture.name for picture in (tmp_path / 'maps').iterdir()} == {
        'a.jpg.png', 'z' * 247 + '.jpg.png', 'ä' * 50 + f'-{digests[names[3]]}.png',
        *('x' * 100 + f'-{digests[name]}.png' for name in names[1:3]),
    }  # fmt: skip


def test_works_without_the_runs_images_and_after_the_run_was_moved(run, folder, tmp_path, capsys):
    images = folder.rename(tmp_path / 'elsewhere')
    assert exit_code(str(run.rename(tmp_path / 'handed over')), [str(images / 'test')]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13


NOT_VALID = r'config\.json is not a valid config\.json of a run \(ValueError: classes must be '


@pytest.mark.parametrize(('changes', 'said'), [
    ({'classes': None}, NOT_VALID + 'a list of names'),
    ({'classes': ['red']}, NOT_VALID + 'two or more'),
    ({'classes': ['a', 'b']}, r"best\.pth doesn't hold the weights of this run"),
])  # fmt: skip
def test_an_invalid_run_is_a_one_line_error(run, folder, changes, said, capsys):
    file = run / 'config.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert exit_code(str(run), [str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert re.match(rf'predict\.py: .*{said}', err)
    assert err.count('\n') == 1


def test_a_run_without_weights_is_a_one_line_error(run, folder, capsys):
    (run / 'models/best.pth').unlink()
    assert exit_code(str(run), [str(folder)]) == 2
    assert capsys.readouterr().err == f'predict.py: {run}/models/best.pth: No such file or directory\n'


def test_many_images_are_predicted_in_batches_of_the_training_size(run, folder, monkeypatch, capsys):
    sizes, plain = [], prediction.probabilities

    def counted(learn, x):
        sizes.append(len(x))
        return plain(learn, x)

    monkeypatch.setattr('predict.probabilities', counted)
    assert exit_code(str(run), [str(folder)]) == 0
    assert sizes == [4] * 9


def test_code_in_a_weights_file_is_not_run(run, folder, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / 'ran',)

    torch.save({'fc.bias': Evil()}, run / 'models/best.pth')
    assert exit_code(str(run), [str(folder)]) == 2
    err = capsys.readouterr().err
    assert 'best.pth is damaged' in err
    assert err.endswith(f'; restore a copy of it, or train anew: python train_fastai.py --config {run}\n')
    assert not (tmp_path / 'ran').exists()
