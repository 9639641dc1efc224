"""How the command line reads: a help that fits a screen, an error that is one line."""

from argparse import ArgumentParser
from collections.abc import Callable
from inspect import getfile, unwrap
from pathlib import Path

from fastcore.script import anno_parser

EPILOG = 'exit codes: 0 done, 1 a bug, 2 something given is unusable, 130 interrupted'


def parser_of(main: Callable) -> ArgumentParser:
    """The parser that fastcore's `call_parse` makes of `main`, with a short usage and errors without it."""
    parser = anno_parser(main, prog=Path(getfile(unwrap(main))).name)
    parser.epilog = EPILOG
    if all(action.option_strings for action in parser._actions):
        parser.usage = '%(prog)s [--option value ...]'
    parser.error = lambda message: parser.exit(2, f'{parser.prog}: {message}; --help lists the options\n')
    for action in parser._actions:
        if action.choices and parser.usage:
            action.metavar = '(name)'  # for the names themselves the help's column has no room
        elif getattr(action.type, '__name__', '') == '_parse':  # of fastcore, for `int | None`; the error names it
            action.type.__name__ = action.metavar.strip('()')
    return parser


def one_screen(main: Callable) -> Callable:
    """Let this parser, before that of `call_parse`, show the help and refuse what it can't read, in a script that runs.

    `call_parse` takes no parser of ours.
    """
    if main.__module__ == '__main__':
        parser_of(main).parse_args()
    return main
