"""The argument parsers. They import only the standard library, so help and errors appear at once."""

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import fields

from config import __version__
from config.options import Config
from config.overrides import OVERRIDES, RECIPE_NAME
from config.values import Choice, Flag

GROUPS = {'data': 'images', 'recipe': 'how to train', 'training': 'training', 'run': 'where the run goes'}
MODES = {
    'config': 'start a new run with the options of this run (its folder or its config.json)',
    'resume': 'finish the stopped run in this folder',
    'review': 'review the finished run in this folder again, without training',
}
EXAMPLES = """\
examples:
  python train_fastai.py --data digits             the whole job in minutes, on bundled images
  python train_fastai.py --data photos --epochs 20 your own images, in a folder for each class
  python train_fastai.py --resume runs/NAME        go on where a run was stopped

"""
EXIT_CODES = 'exit codes: 0 done, 1 a bug, 2 something given is unusable, 130 interrupted'


class Parser(ArgumentParser):
    """An ArgumentParser that prints an error as one line."""

    def error(self, message: str):
        self.exit(2, f'{self.prog}: {message}; --help lists the options\n')


def train_parser() -> Parser:
    """The parser of `train_fastai.py`; its namespace contains only the options that were given."""
    about, usage = 'Train an image classifier with fastai, and see why it is wrong.', '%(prog)s [--option value ...]'
    style = {'formatter_class': RawDescriptionHelpFormatter, 'argument_default': SUPPRESS}
    parser = Parser('train_fastai.py', usage, about, EXAMPLES + EXIT_CODES, **style)
    parser.add_argument('--version', action='version', version=f'train_fastai {__version__}')
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    options = {'recipe': RECIPE_NAME, **OVERRIDES, **{o.name: o for o in fields(Config) if o.metadata}}
    for name, option in options.items():
        about = option.metadata
        values, text = about['values'], f'{about["help"]} (default: {about["shown"]})'
        if isinstance(values, Flag):
            kind, text = {'action': BooleanOptionalAction}, about['help']  # --no-... turns off what --config RUN has on
        elif isinstance(values, Choice):
            kind = {'choices': values.names}
        else:
            kind = {'type': values, 'metavar': values.metavar}
        groups[about['group']].add_argument(f'--{name.replace("_", "-")}', help=text, **kind)
    modes = parser.add_argument_group('earlier runs')
    for mode, text in MODES.items():
        modes.add_argument(f'--{mode}', metavar='RUN', help=text)
    modes.add_argument('--verdicts', metavar='FILE', help='with --review: correct test labels by a CSV from the page')
    return parser


def predict_parser() -> Parser:
    """The parser of `predict.py`."""
    parser = Parser('predict.py', description='Classify images with the model of a run.', epilog=EXIT_CODES)
    parser.add_argument('run', help='folder of the run')
    parser.add_argument('images', nargs='+', help='files, folders with all below them, or globs')
    parser.add_argument('--topk', type=_at_least_1, default=3, metavar='K', help='classes to name (default: 3)')
    parser.add_argument('--csv', metavar='FILE', help='write the table to this CSV file instead of printing it')
    parser.add_argument('--json', action='store_true', help='print all probabilities, as JSON')
    parser.add_argument('--gradcam', metavar='FOLDER', help='write Grad-CAM pictures of the images to this folder')
    return parser


def _at_least_1(text: str) -> int:
    if (n := int(text)) < 1:
        raise ArgumentTypeError('at least 1')
    return n


def export_parser(formats: Sequence[str]) -> Parser:
    """The parser of `export.py`; the first of `formats` is the default."""
    text = 'Write the model of a run as one file for other programs, and check that it says the same.'
    parser = Parser('export.py', description=text, epilog=EXIT_CODES)
    parser.add_argument('run', help='folder of the run')
    parser.add_argument('--format', choices=formats, default=formats[0], help='what to write (default: %(default)s)')
    parser.add_argument('--out', metavar='PATH', help="file or folder to write to (default: the run's folder)")
    return parser
