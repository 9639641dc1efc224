from math import sqrt

import pandas as pd
import pytest
from pages import ANSWERS, BLUE, FILES, GREEN, RED, interpret
from tiny import write_images

from interpret.corrections import COLUMNS, correct_labels, corrected_accuracy, corrected_confusion, read_verdicts
from runtime.csv_file import write_csv
from runtime.errors import UserError

# Images 0 to 3 are blue, 4 to 7 green, 8 to 11 red; five of the twelve answers are right.
ROWS = [
    (FILES[1], BLUE, 'label wrong', GREEN),  # as the model says
    (FILES[2], BLUE, 'label wrong', RED),  # the model says green
    (FILES[3], BLUE, 'none of the classes', ''),
    (FILES[5], GREEN, 'ambiguous', ''),
    (FILES[6], GREEN, 'label wrong', ''),  # which class is right isn't known
    (FILES[10], RED, 'model wrong', ''),
    (FILES[11], RED, '', ''),  # a note alone
]


@pytest.fixture
def interp(tmp_path):
    return interpret(write_images(tmp_path / 'images'), ANSWERS)


def verdicts(rows=ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def wilson(p, n):
    z = 1.959964
    centre, half = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]


def test_accuracy_and_confusion_matrix_with_corrected_labels(interp):
    corrections = correct_labels(interp, verdicts())
    assert corrected_accuracy(interp, corrections) == {
        'corrected_labels': 2,
        'left_out': 2,
        'images': 10,
        'test_accuracy': pytest.approx(0.6),
        'interval': pytest.approx(wilson(0.6, 10)),
        'interval_with_given_labels': pytest.approx(wilson(5 / 12, 12)),
    }
    assert corrected_confusion(interp, corrections).tolist() == [[1, 0, 0], [1, 3, 0], [1, 2, 2]]
    assert interp.targs.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_a_file_without_verdicts_changes_nothing(interp):
    corrections = correct_labels(interp, verdicts([]))
    result = corrected_accuracy(interp, corrections)
    assert result['interval'] == result['interval_with_given_labels']
    assert (corrected_confusion(interp, corrections) == interp.confusion_matrix()).all()


@pytest.mark.parametrize(('row', 'said'), [
    (('test/none.png', BLUE, 'ambiguous', ''), 'this run has no test/none.png of the class =blue'),
    ((FILES[1], RED, 'ambiguous', ''), 'this run has no a "quoted", name.png of the class röt'),
    ((FILES[1], BLUE, 'label wrong', 'pink'), 'names no class of this run: pink'),
])  # fmt: skip
def test_verdicts_of_other_images_or_classes_are_refused(interp, row, said):
    with pytest.raises(UserError, match=said):
        correct_labels(interp, verdicts([row]))


@pytest.mark.parametrize('saved_by', ['the page', 'a spreadsheet'])
def test_the_exported_file_is_read(tmp_path, saved_by):
    rows = [*ROWS, ('001.png', '7', 'label wrong', '3'), ('nan', 'NA', 'ambiguous', '')]
    table = verdicts(rows).assign(note='one; "two",\nlines', probability=0.5)
    if saved_by == 'the page':
        write_csv(table, tmp_path / 'a.csv')
    else:
        table.to_csv(tmp_path / 'a.csv', sep=';', index=False, encoding='utf-8-sig')
    pd.testing.assert_frame_equal(read_verdicts(tmp_path / 'a.csv'), verdicts(rows))


@pytest.mark.parametrize(('content', 'said'), [
    ('', 'delimiter'),
    ('file,actual,predicted,verdict\na,b,c,ambiguous\n', 'right_class'),
    ('file,actual,verdict,right_class\na,b,bad,c\n', 'no verdict: bad'),
    ('file,actual,verdict,right_class\na,b,ambiguous,\na,b,ambiguous,\n', 'two rows for a'),
    ('\xff\0', 'can.t decode byte'),
])  # fmt: skip
def test_another_file_is_one_line(tmp_path, content, said):
    (tmp_path / 'a.csv').write_text(content, encoding='latin1')
    with pytest.raises(UserError, match=said) as e:
        read_verdicts(tmp_path / 'a.csv')
    assert '\n' not in str(e.value)


def test_verdicts_that_leave_no_image_are_refused(interp):
    images = interp.suspects(k=None)
    rows = [(row.file, row.actual, 'none of the classes', '') for row in images.itertuples()]
    with pytest.raises(UserError, match='the verdicts leave out all test images'):
        correct_labels(interp, verdicts(rows))
