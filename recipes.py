"""What a training run is made of, as data. Sizes are fractions of the image, so that a recipe scales with it."""

from dataclasses import dataclass, fields, replace
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """One way to train: augmentation, model, loss, optimiser, schedule and sweep.

    Lengths (`pad`, `hole`) are fractions of the image's height and width; `mean` and `std` are of RGB in [0, 1].
    """

    # augmentation, in this order
    pad: float  # pad each side by this much, then crop a window of the image's size: 0 is none
    flip: float  # probability of a horizontal flip
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    hole: float  # side of the one square that Cutout greys (after Normalize, so that it is the mean's colour)
    # model and loss
    last_stride: int
    dropout: float
    label_smoothing: float
    # SGD
    lr: float  # what is used when the sweep can't tell
    mom: float
    nesterov: bool
    wd: float  # true L2, on every parameter but the filters that Muon trains
    # schedule
    epochs: int
    bs: int
    patience: int  # epochs without a lower validation loss before the learning rate is cut
    factor: float  # what it is divided by
    # sweep
    lr_rule: str  # 'none': no sweep, `lr` was tuned together with all the rest
    sweep_steps: int = 60  # over 1e-4 to 10, the resolution of fastai's 100 over 1e-7 to 10
    # what only some recipes have
    arch: str = 'resnet18'  # torchvision's name, or one of `models.SPEEDNETS`
    pretrained: bool = False  # begin with torchvision's weights; `mean` and `std` are theirs then
    # least part of an image's area that a random crop takes, where images are resized (instead of `pad`): fastai's for
    # Imagenette; torchvision's 0.08 is for 90 epochs of ImageNet
    min_scale: float = 0.35
    valid: float = 0.1  # fraction of the training images to validate on; 0: the schedule needs none
    schedule: str = 'plateau'  # or 'triangle', see `callbacks/triangle.py`: then there are no cuts
    bias_lr: float = 1.0  # the learning rate of BatchNorm's biases is this much higher, and their decay lower
    muon: float = 0.0  # the learning rate of filters, as a multiple of `lr`, where Muon trains them: `optimiser.py`
    alternating_flip: bool = False  # see `data.seeded.BatchedDL`; where images are resized each flip is drawn by itself
    lookahead: bool = False  # see `callbacks/lookahead.py`
    test_views: bool = False  # see `callbacks/views.py`

    @property
    def lr_scales(self) -> dict[str, float]:
        """What the learning rate is multiplied by for each group of parameters that has its own, and for the rest.

        `rest` is last: fastai takes the last group's rate for that of all, where it logs it.
        """
        biases = {'biases': self.bias_lr} if self.bias_lr != 1 else {}
        filters = {'filters': self.muon} if self.muon else {}
        return {**biases, **filters, 'rest': 1.0}

    @property
    def views(self) -> dict[str, bool] | None:
        """How an image is looked at once trained, the arguments of `mean_over_views`; None is as it is, once."""
        return {'flip': self.flip > 0, 'shift': self.pad > 0} if self.test_views else None

    @classmethod
    def from_dict(cls, values: dict) -> 'Recipe':
        """The Recipe that `asdict` and JSON have made `values` of; TypeError or ValueError where they can't be one."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in dict(values).items()}
        values.pop('sizes', None)  # of runs before the first release: how they trained, not what their networks are
        recipe = cls(**values)
        numbers = {float: (int, float), int: (int,)}
        for field in fields(cls):
            value, kinds = getattr(recipe, field.name), numbers.get(field.type, (field.type,))
            low, high = LIMITS.get(field.name, (0, 10**6))
            if field.name in ('mean', 'std'):
                fine = isinstance(value, tuple) and [type(v) for v in value] == [float] * 3
                fine = fine and all(low <= v <= high for v in value)
            elif field.name in NAMES:
                fine = value in NAMES[field.name]
            else:
                fine = type(value) in kinds and (type(value) in (bool, str) or low <= value <= high)
            if not fine:
                raise ValueError(f'{field.name} {value!r}')
        if 0 < recipe.muon < SMALLEST:  # the weight decay of filters is divided by it
            raise ValueError(f'muon {recipe.muon!r}')
        if recipe.nesterov and not recipe.mom:
            raise ValueError('nesterov without mom')
        return recipe


SMALLEST = 1e-6
# Lowest and highest value of numbers that aren't from 0 to a million; a NaN is in no range.
LIMITS = {
    'pad': (0, 1), 'flip': (0, 1), 'hole': (0, 1), 'dropout': (0, 0.99), 'label_smoothing': (0, 0.99), 'mom': (0, 1),
    'last_stride': (1, 2), 'epochs': (1, 10**6), 'bs': (2, 10**6), 'patience': (1, 10**6), 'factor': (1, 10**6),
    'sweep_steps': (1, 10**6), 'valid': (0, 0.99), 'min_scale': (0.01, 1), 'mean': (-100, 100), 'std': (0.001, 100),
    'lr': (1e-9, 1000), 'wd': (0, 100), 'bias_lr': (SMALLEST, 1e6), 'muon': (0, 1000),
}  # fmt: skip
NAMES = {
    'schedule': ('plateau', 'triangle'),
    'lr_rule': ('none', 'valley', 'slide', 'minimum', 'steep', 'lowest'),
}


# The course project as published, but for its dropout, which stayed on in evaluation, and its hole, which was
# clipped where it crossed the border (this one always lies inside, so it always hides a quarter of the image).
REFERENCE = Recipe(
    pad=0.0, flip=0.5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), hole=0.5,
    last_stride=1, dropout=0.1, label_smoothing=0.0,
    lr=0.01, mom=0.9, nesterov=False, wd=1e-4,
    epochs=50, bs=128, patience=10, factor=10.0,
    lr_rule='valley',  # fastai's default, as the course project took its own finder's
)  # fmt: skip

# The same parts, at the values of the papers that are named. In 50 epochs they haven't been measured together, nor with
# Muon, which in 15 short epochs was worth 12 points: results/README.md.
PLATEAU = Recipe(
    pad=1 / 8,  # 4 pixels of 32, mirrored: Zagoruyko & Komodakis 2016, arXiv 1605.07146, 3
    flip=0.5,
    mean=(0.4914, 0.4822, 0.4465),  # of the 50,000 training images
    std=(0.2470, 0.2435, 0.2616),
    hole=0.5,  # 16 of 32, the optimum of DeVries & Taylor 2017, arXiv 1708.04552, though theirs may cross the border
    last_stride=2,  # 0.56 GMAC an image; the reference's 1 costs 0.95
    dropout=0.0,  # BatchNorm, L2 and Cutout regularise; ResNet (1512.03385, 3.4) uses none either
    label_smoothing=0.1,  # He et al. 2018, arXiv 1812.01187, 5.2, for ImageNet
    lr=0.1, mom=0.9,  # 1512.03385, 4.2, at this batch size
    nesterov=True, wd=5e-4,  # 1605.07146, 3
    epochs=50, bs=128,
    patience=4, factor=5.0,  # 1605.07146 divides by 5, three times; 4, not measured yet, leaves room for as many in 50
    lr_rule='lowest',  # led furthest, and steadier than the only one of fastai's that equalled it: results/lr_rules.md
)  # fmt: skip

# For people without a GPU: most of Jordan 2024 (arXiv 2404.00498, airbench94), whose values these are unless another
# source or a measurement is named. They were made for batches of 1,024 and their loss summed up.
SPEEDRUN = Recipe(
    arch='speednet',
    pad=1 / 16,
    flip=0.5, alternating_flip=True,
    mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
    hole=0.0,
    last_stride=2, dropout=0.0,
    label_smoothing=0.2,
    lr=0.375,  # 11.5 / 7.67 / 1024 for each image of the batch
    mom=0.85, nesterov=True,
    wd=0.00133,  # 0.0153 / 11.5
    bias_lr=64.0,
    muon=0.16,  # 0.06 at the peak; twice that, or no lookahead, gave the same: results/README.md
    schedule='triangle', lookahead=True,
    epochs=10, bs=256,
    valid=0.0,
    test_views=True,
    patience=1, factor=1.0,
    lr_rule='none',
)  # fmt: skip

# For those who can wait: half an hour on two cores with AVX-512, an hour and more with AVX2.
HOUR = replace(SPEEDRUN, arch='speednet_wide', epochs=18)  # by their time

RECIPES = {'plateau': PLATEAU, 'reference': REFERENCE, 'speedrun': SPEEDRUN, 'hour': HOUR}

# What the bundled digits change in any recipe: 1,437 training images of 16x16 want more and smaller steps, a mirrored
# digit is another digit, and one that is cropped can be too, since they fill their frame.
DIGITS = {'pad': 0.0, 'flip': 0.0, 'bs': 64, 'epochs': 11}
# So few epochs leave no room for a rate at the edge, nor for much patience.
DIGITS_PLATEAU = {'lr_rule': 'valley', 'patience': 2}


def recipe_for(data: str | Path, name: str = 'plateau') -> Recipe:
    """The recipe `name`, fitted to what `data` names."""
    recipe = RECIPES[name]
    changes = DIGITS | (DIGITS_PLATEAU if recipe.schedule == 'plateau' else {}) if data == 'digits' else {}
    return replace(recipe, **changes)
