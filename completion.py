"""Tab completion of `./train_fastai.py`: `shtab --shell bash completion.parser` prints the shell's script for it."""

from argparse import ArgumentParser

from shtab import DIRECTORY, FILE

from command_line import parser_of
from train_fastai import main

PATHS = {'data': FILE, 'config': FILE, 'out': DIRECTORY, 'resume': DIRECTORY, 'review': DIRECTORY}


def parser() -> ArgumentParser:
    """That of the command line, which says where a path is wanted."""
    made = parser_of(main)
    for action in made._actions:
        if action.dest in PATHS:
            action.complete = PATHS[action.dest]
    return made
