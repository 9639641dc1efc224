import albumentations as A
import pytest

from config.recipes import PLATEAU
from data.augment import get_transforms
from data.crop import visible_part


@pytest.mark.parametrize(('size', 'expected'), [
    # the shorter side becomes 256, the longer one 341.33, or 341 pixels; 224 remain, from pixel (341 - 224) // 2 = 58
    ((375, 500), (58 / 341.333, 0.0625, 224 / 341.333, 0.875)),
    ((500, 375), (0.0625, 58 / 341.333, 0.875, 224 / 341.333)),
    ((64, 64), (0.0625, 0.0625, 0.875, 0.875)),
])  # fmt: skip
def test_validation_sees_seven_eighths_of_the_shorter_side(size, expected):
    _, valid = get_transforms(PLATEAU, (224, 224), resize=True)
    assert visible_part(valid, size) == pytest.approx(expected, abs=1e-4)


def test_other_transforms_count_too():
    compose = A.Compose([A.Crop(10, 20, 40, 30), A.Normalize(), A.ToTensorV2()])
    assert visible_part(compose, (40, 80)) == pytest.approx((10 / 80, 20 / 40, 30 / 80, 10 / 40))
