import csv

import pytest
from torch import nn

from data.verify import write_bad_images
from interpret.review import review


def test_only_a_model_without_maps_is_reviewed_without_them(learner, tmp_path, capsys, monkeypatch):
    learn = learner()
    conv = learn.model
    learn.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with learn.no_bar():
        assert review(learn, tmp_path / 'out').faithfulness is None
        assert 'no Grad-CAM: no layer of Sequential has a map larger than 1x1' in capsys.readouterr().out
        learn.model = conv
        monkeypatch.setattr('interpret.gradcam.rescale', lambda cam: int('a bug'))
        with pytest.raises(ValueError, match='a bug'):
            review(learn, tmp_path / 'out')


def column(file, name):
    with file.open(newline='', encoding='utf-8') as f:
        return {row[name] for row in csv.DictReader(f)}


def test_a_class_name_that_looks_like_a_formula_is_text_in_every_table(learner, folder, tmp_path):
    for split in 'train', 'test':
        (folder / split / 'red').rename(folder / split / '=1+1')
    learn = learner()
    with learn.no_bar():
        interp = review(learn, tmp_path / 'out')
    assert column(tmp_path / 'out/per_class.csv', 'class') == {"'=1+1", 'blue', 'green'}
    seen = column(tmp_path / 'out/mistakes.csv', 'actual') | column(tmp_path / 'out/mistakes.csv', 'predicted')
    assert "'=1+1" in seen
    assert '=1+1' not in seen
    assert len(interp.mistakes(k=None)) == len((tmp_path / 'out/mistakes.csv').read_text().splitlines()) - 1
    write_bad_images(tmp_path, [('=1+1', 'empty')])
    assert column(tmp_path / 'bad_images.csv', 'file') == {"'=1+1"}
