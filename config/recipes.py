"""The recipes, with a source for each value."""

from dataclasses import replace
from pathlib import Path

from config.recipe import TIMM, Recipe

# The course project as published, with two differences: its dropout stayed on in evaluation, and its hole was clipped
# at the border (here the hole always lies inside the image, so it always hides a quarter of it).
REFERENCE = Recipe(
    name='reference',
    pad=0.0, flip=0.5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), hole=0.5,
    last_stride=1, dropout=0.1, label_smoothing=0.0,
    lr=0.0204,  # as its own LR finder suggested; fastai's `valley` suggests 0.0026: results/README.md
    mom=0.9, nesterov=False, wd=1e-4,
    epochs=50, bs=128, patience=10, factor=10.0,
    lr_rule='own',
)  # fmt: skip

# The same ingredients, with values from the cited papers and from short runs: results/README.md.
PLATEAU = Recipe(
    name='plateau',
    pad=1 / 8,  # 4 pixels of 32, mirrored: Zagoruyko & Komodakis 2016, arXiv 1605.07146, section 3
    flip=0.5,
    mean=(0.4914, 0.4822, 0.4465),  # of the 50,000 training images
    std=(0.2470, 0.2435, 0.2616),
    hole=0.25,  # 8 of 32 pixels: half of what DeVries & Taylor 2017, arXiv 1708.04552, found best for 200 epochs
    last_stride=2,  # 0.56 GMAC per image; the reference's 1 costs 0.95
    dropout=0.0,  # BatchNorm, L2 and Cutout regularise; ResNet (1512.03385, section 3.4) uses none either
    label_smoothing=0.1,  # He et al. 2018, arXiv 1812.01187, section 5.2, for ImageNet
    lr=0.1, mom=0.9,  # 1512.03385, section 4.2, at this batch size
    nesterov=True, wd=5e-4,  # 1605.07146, section 3
    epochs=50, bs=128,
    patience=3, factor=5.0,  # 1605.07146 divides by 5 three times
    average=1.0,  # at a constant rate as accurate as raw weights under the triangle: results/README.md
    test_views=True,
    lr_rule='lowest',  # best result, and more stable than fastai's only equal rule: results/lr_rules.md
)  # fmt: skip

# For training without a GPU: most of Jordan 2024 (arXiv 2404.00498, airbench94), the source of every value without
# another source or measurement. That paper uses batches of 1,024 and sums the loss over the batch.
SPEEDRUN = Recipe(
    name='speedrun',
    arch='speednet',
    pad=1 / 16,
    flip=0.5, alternating_flip=True,
    mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
    hole=0.0,
    last_stride=2, dropout=0.0,
    label_smoothing=0.2,
    lr=0.375,  # 11.5 / 7.67 / 1024, times the batch size
    mom=0.85, nesterov=True,
    wd=0.00133,  # 0.0153 / 11.5
    bias_lr=64.0,
    muon=0.16,  # 0.06 at the peak; doubling it, or no lookahead, gave the same result: results/README.md
    schedule='triangle', lookahead=True,
    epochs=10, bs=256,
    valid=0.0,
    test_views=True,
    patience=1, factor=1.0,
    lr_rule='none',
)  # fmt: skip

# Longer training: half an hour on two cores with AVX-512, an hour or more with AVX2.
HOUR = replace(SPEEDRUN, name='hour', arch='speednet_wide', epochs=18)  # width and epochs chosen to take that time

# For photographs: fine-tune a network that was trained on ImageNet, by the schedule of fastai's `fine_tune`. Values
# without a source were measured: results/README.md.
FINETUNE = Recipe(
    name='finetune',
    arch=f'{TIMM}tf_efficientnet_lite0', pretrained=True,  # small enough for two CPU cores
    pad=0.0, flip=0.5, hole=0.0,
    mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), side=224,  # of its weights
    last_stride=2, dropout=0.0,
    label_smoothing=0.1,
    lr=1e-3, mom=0.9, nesterov=False, wd=0.01, adamw=True,
    body_lr=0.5,
    schedule='finetune', frozen=2, epochs=10,
    bs=0,
    patience=1, factor=1.0,
    lr_rule='own',
)  # fmt: skip

RECIPES = {recipe.name: recipe for recipe in (PLATEAU, REFERENCE, SPEEDRUN, HOUR, FINETUNE)}

# Changes to any recipe for the bundled digits: 1,437 training images of 16x16 need more, smaller steps, and a flip or
# crop can change the label, since a digit fills its image.
DIGITS = {'pad': 0.0, 'flip': 0.0, 'bs': 64, 'epochs': 11}
# With so few epochs, the highest stable learning rate is too risky and a long patience too slow.
DIGITS_PLATEAU = {'lr_rule': 'valley', 'patience': 2}


def recipe_for(data: str | Path, name: str = 'plateau') -> Recipe:
    """The recipe `name`, adapted to the data set `data`."""
    recipe = RECIPES[name]
    changes = DIGITS | (DIGITS_PLATEAU if recipe.schedule == 'plateau' else {}) if data == 'digits' else {}
    return replace(recipe, **changes)
