import csv

from data.verify import write_bad_images
from interpret.review import review


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
