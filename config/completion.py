"""Tab completion of `./train_fastai.py`: `shtab -s bash config.completion.parser` prints the shell's script."""

from argparse import ArgumentParser

from shtab import DIRECTORY, FILE

from config.command_line import train_parser

PATHS = {'data': FILE, 'config': FILE, 'out': DIRECTORY, 'resume': DIRECTORY, 'review': DIRECTORY}


def parser() -> ArgumentParser:
    """The parser of `train_fastai.py`, with shtab's completion for options that take a path."""
    result = train_parser()
    for action in result._actions:
        if action.dest in PATHS:
            action.complete = PATHS[action.dest]
    return result
