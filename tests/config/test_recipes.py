import json
import math
from dataclasses import asdict, fields

import pytest

from config.recipes import PLATEAU, RECIPES, Recipe

FLOATS = [field.name for field in fields(Recipe) if field.type is float]


def changed(**changes):
    return Recipe.from_dict(json.loads(json.dumps({**asdict(PLATEAU), **changes})))


@pytest.mark.parametrize('name', RECIPES)
def test_each_recipe_survives_writing_and_reading(name):
    assert Recipe.from_dict(json.loads(json.dumps(asdict(RECIPES[name])))) == RECIPES[name]


@pytest.mark.parametrize('name', FLOATS)
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, -1, 1e300, 10**400, '1', None, True, [0.5], {}])
def test_every_number_has_a_range(name, value):
    with pytest.raises(ValueError, match=name):
        changed(**{name: value})


@pytest.mark.parametrize(('name', 'value'), [
    ('bias_lr', 0),  # the weight decay is divided by bias_lr and by muon
    ('bias_lr', 1e-300),
    ('muon', 1e-300),
    ('lr', 0),
    ('std', [0.0, 0.5, 0.5]),
    ('std', [1e-30, 0.5, 0.5]),
    ('std', [math.nan, 0.5, 0.5]),
    ('std', [-0.5, 0.5, 0.5]),
    ('mean', [math.nan, 0.5, 0.5]),
    ('mean', [0.5, math.inf, 0.5]),
    ('mean', [0.5, 0.5]),
    ('mean', 'abc'),
    ('schedule', 'cosine'),
    ('schedule', ['plateau']),
    ('lr_rule', 'valle'),
])  # fmt: skip
def test_invalid_values_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        changed(**{name: value})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match='nesterov needs mom above 0'):
        changed(mom=0)
    assert changed(mom=0, nesterov=False).mom == 0
