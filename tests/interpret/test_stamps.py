import numpy as np
import pandas as pd
import pytest

from interpret.stamps import TESTS, most_faithful, stamp, stamp_with_reason


def measured(score, faithful, **tests) -> pd.DataFrame:
    """Two layers, `a` and `b`; each test has its difference for both and an interval of 0.1."""
    columns = {'score': score, 'faithful': faithful}
    for test in TESTS:
        columns |= {test: tests.get(test, [1.0, 1.0]), f'{test}_ci': 0.1}
    return pd.DataFrame(columns, index=['a', 'b'])


@pytest.mark.parametrize(('test', 'reason'), TESTS.items())
def test_a_stamp_names_the_test_that_failed_in_ten_words(test, reason):
    table = measured([0.5, 0.5], [True, False], **{test: [0.2, 0.1]})
    assert stamp_with_reason(table, 'a') == ''
    said = stamp_with_reason(table, 'b')
    assert said == f'not faithful here: {reason}'
    assert len(said.split()) <= 10
    assert stamp(table, 'b') == 'not faithful here'


def test_too_few_images_for_an_interval_fail_the_first_test():
    table = measured([0.5, 0.5], [False, False]).assign(over_random_ci=np.inf)
    assert stamp_with_reason(table, 'a') == 'not faithful here: no better than random pixels'


def test_layers_that_were_not_measured_have_no_stamp():
    assert stamp_with_reason(None, 'a') == stamp_with_reason(measured([1, 1], [False, False]), 'c') == ''


@pytest.mark.parametrize(('score', 'faithful', 'expected'), [
    ([0.9, 0.1], [False, True], 1), ([0.9, 0.1], [True, True], 0), ([0.1, 0.9], [True, True], 1),
    ([0.9, 0.1], [False, False], 0),
])  # fmt: skip
def test_the_most_faithful_layer_has_the_highest_score_of_the_faithful_ones(score, faithful, expected):
    assert most_faithful(measured(score, faithful), ['a', 'b']) == expected


def test_without_a_score_for_each_layer_it_is_the_last():
    assert most_faithful(None, ['a', 'b', 'c']) == most_faithful(measured([1, 0], [True, True]), ['a', 'b', 'c']) == 2
