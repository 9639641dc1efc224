"""A recipe: hyper-parameters as data. Sizes are fractions of the image, so a recipe works at any resolution."""

from dataclasses import dataclass, fields

TIMM = 'timm:'  # prefix of the names of timm's networks


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
    hole: float  # side of Cutout's square, as a fraction of the image's; after Normalize, so it has the mean colour
    # model and loss
    last_stride: int
    dropout: float
    label_smoothing: float
    # SGD
    lr: float  # used without a sweep, or if the sweep has no suggestion
    mom: float
    nesterov: bool
    wd: float  # true L2 (AdamW: decoupled), on every parameter except the filters that Muon trains
    # schedule
    epochs: int
    bs: int  # 0: a twentieth of the training images, from 8 to 128
    patience: int  # epochs without a lower validation loss before the learning rate is cut
    factor: float  # the learning rate is divided by this
    # sweep
    lr_rule: str  # 'none': no sweep, `lr` was tuned together with the other values; 'own': a sweep is drawn beside `lr`
    sweep_steps: int = 60  # from 1e-4 to 10: the resolution of fastai's 100 steps from 1e-7 to 10
    # used by some recipes only
    arch: str = 'resnet18'  # torchvision's name, TIMM + timm's name, or one of `models.speednet.SPEEDNETS`
    pretrained: bool = False  # start from published weights, and normalise with their `mean` and `std`
    weights: str = ''  # a file of pretrained weights; '': the library's own
    side: int = 0  # images become squares of this side; 0: small images of one size keep it, others get 224
    # minimum area of a random crop, as a fraction of the image; replaces `pad` when images are resized. 0.35 is
    # fastai's value for Imagenette; torchvision's 0.08 is for 90 epochs of ImageNet
    min_scale: float = 0.35
    valid: float = 0.1  # fraction of the training images to validate on; 0 if the schedule needs no validation
    # 'plateau' cuts the rate; 'triangle' (`callbacks/triangular_lr.py`) and 'finetune' (`callbacks/fine_tune.py`) don't
    schedule: str = 'plateau'
    frozen: int = 0  # first epochs, in which `finetune` trains only the last layer; 0 without pretrained weights
    body_lr: float = 1.0  # learning rate times this for all layers but the last
    adamw: bool = False  # AdamW instead of SGD; `mom` is its first beta
    bias_lr: float = 1.0  # BatchNorm's biases: learning rate times this, weight decay divided by it
    muon: float = 0.0  # Muon trains the filters (`training/muon.py`) at this multiple of `lr`; 0: SGD trains them
    alternating_flip: bool = False  # see `data.batched_loader`; when images are resized, each flip is independent
    lookahead: bool = False  # see `callbacks/slow_weights.py`
    test_views: bool = False  # see `callbacks/test_time_views.py`
    # what replaces crop, flip and hole in training: 'recipe' (nothing), 'light', 'strong', or Albumentations' JSON
    augment: str = 'recipe'
    early_stop: int = 0  # training ends after this many epochs without a lower validation loss; 0: never
    mixup: float = 0.0  # `callbacks/mixup.py` mixes images in proportions of Beta(mixup, mixup); 0: off
    weight_classes: bool = False  # the loss weights each class inversely to its number of training images
    average: float = 0.0  # epochs over which weights are averaged (`callbacks/averaged_weights.py`); 0: no average
    name: str = 'own'  # its name on the command line

    @property
    def lr_scales(self) -> dict[str, float]:
        """The learning rate's multiplier for each parameter group; the last layer's group is the last."""
        biases = {'biases': self.bias_lr} if self.bias_lr != 1 else {}
        filters = {'filters': self.muon} if self.muon else {}
        return {**biases, **filters, 'body': self.body_lr, 'head': 1.0}

    @property
    def views(self) -> dict[str, bool] | None:
        """The arguments of `mean_over_views` for test-time augmentation; None turns it off."""
        flips = self.flip > 0 and (len(self.augment) < 10 or 'HorizontalFlip' in self.augment)  # a name, or transforms
        return {'flip': flips, 'shift': self.pad > 0} if self.test_views else None

    @classmethod
    def from_dict(cls, values: dict) -> 'Recipe':
        """The Recipe from `values`, which `asdict` made and JSON stored; TypeError or ValueError if invalid."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in dict(values).items()}
        values.pop('sizes', None)  # in runs before the first release; it affected training, not the network
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
        if recipe.muon and recipe.adamw:
            raise ValueError('muon or adamw, not both')
        if recipe.nesterov and not recipe.mom:
            raise ValueError('nesterov needs mom above 0')
        return recipe


SMALLEST = 1e-6
# Lowest and highest values; the default is 0 to a million. NaN is always refused.
LIMITS = {
    'pad': (0, 1), 'flip': (0, 1), 'hole': (0, 1), 'dropout': (0, 0.99), 'label_smoothing': (0, 0.99), 'mom': (0, 1),
    'last_stride': (1, 2), 'epochs': (1, 10**6), 'bs': (0, 10**6), 'patience': (1, 10**6), 'factor': (1, 10**6),
    'sweep_steps': (1, 10**6), 'valid': (0, 0.99), 'min_scale': (0.01, 1), 'mean': (-100, 100), 'std': (0.001, 100),
    'lr': (1e-30, 1e30), 'wd': (0, 100), 'bias_lr': (SMALLEST, 1e6), 'body_lr': (SMALLEST, 1e6), 'muon': (0, 1000),
    'mixup': (0, 10),
}  # fmt: skip
NAMES = {
    'schedule': ('plateau', 'triangle', 'finetune'),
    'lr_rule': ('none', 'own', 'valley', 'slide', 'minimum', 'steep', 'lowest'),
}
