"""What the measured faithfulness says about a layer's maps, in words."""

from collections.abc import Sequence

import pandas as pd

STAMP = 'not faithful here'
TESTS = {
    'over_random': 'no better than random pixels',
    'over_centre': "no better than the image's centre",
    'unlike_random_weights': 'random weights give similar maps',
}


def stamp(faithfulness: pd.DataFrame | None, layer: str) -> str:
    """The warning beside the maps of `layer` if they were measured as not faithful; else ''."""
    measured = faithfulness is not None and layer in faithfulness.index
    return STAMP if measured and not faithfulness.faithful[layer] else ''


def stamp_with_reason(faithfulness: pd.DataFrame | None, layer: str) -> str:
    """`stamp` with the first test of `interpret.faithfulness` that the maps failed, in at most ten words."""
    if not (text := stamp(faithfulness, layer)):
        return ''
    row = faithfulness.loc[layer]
    failed = [reason for test, reason in TESTS.items() if not row[test] > row[f'{test}_ci']]
    return ': '.join([text, *failed[:1]])


def most_faithful(faithfulness: pd.DataFrame | None, layers: Sequence[str]) -> int:
    """The position of the layer with the highest score, a faithful one if there is one; without scores, the last."""
    if not layers or faithfulness is None or not set(layers) <= set(faithfulness.index):
        return len(layers) - 1
    rows = faithfulness.loc[layers]
    return max(range(len(layers)), key=lambda i: (rows.faithful.iloc[i], rows.score.iloc[i]))
