from pathlib import Path

import pytest

from data.sizes import choose_size, find_odd_sizes


def sizes(**counts):
    """{file: size} for the given counts: `s32x24=3` makes three, 32 pixels high and 24 wide."""
    listed = [tuple(map(int, size[1:].split('x'))) for size, n in counts.items() for _ in range(n)]
    return {Path(f'{i}.png'): size for i, size in enumerate(listed)}


@pytest.mark.parametrize(('counts', 'wanted', 'expected'), [
    ({'s28x28': 5}, None, ((28, 28), False)),
    ({'s64x48': 5}, None, ((64, 48), False)),
    ({'s65x48': 5}, None, ((224, 224), True)),
    ({'s32x32': 9, 's1x1': 1}, None, ((32, 32), False)),
    ({'s32x32': 8, 's1x1': 1}, None, ((224, 224), True)),
    ({'s32x32': 9, 's40x40': 2}, 32, ((32, 32), True)),
    ({'s32x32': 9}, 32, ((32, 32), False)),
    ({'s96x96': 9}, 96, ((96, 96), False)),
    ({'s96x80': 9}, 96, ((96, 96), True)),
    ({'s500x375': 2, 's375x500': 2}, 128, ((128, 128), True)),
    ({}, None, ((224, 224), True)),
])  # fmt: skip
def test_training_size(counts, wanted, expected):
    assert choose_size(sizes(**counts), wanted) == expected


def test_small_images_of_another_size_are_odd():
    odd = find_odd_sizes(sizes(s32x32=9, s32x31=1), (32, 32), False)
    assert odd == [(Path('9.png'), '31x32, the others are 32x32')]
    assert find_odd_sizes(sizes(s15x15=2), (15, 15), False) == [
        (Path(f'{i}.png'), '15x15, less than 16 pixels') for i in (0, 1)
    ]


def test_tiny_and_very_long_images_are_not_resized():
    assert find_odd_sizes(sizes(s16x16=1, s3000x4000=1, s320x16=1, s16x320=1), (224, 224), True) == []
    assert [reason for _, reason in find_odd_sizes(sizes(s15x40=1, s321x16=1, s1x1=1), (224, 224), True)] == [
        '40x15, less than 16 pixels', '16x321, over 20 times as long as wide', '1x1, less than 16 pixels',
    ]  # fmt: skip
