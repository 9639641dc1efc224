"""Time what happens before the training: the first start on a folder of images, and later ones.

    python benchmarks/start.py --data path/to/cifar10

What the starts keep on the disk goes into a temporary folder. The times are those of `get_dls` in a warm process, with
the files in the page cache; the last line is a new process, from its start to its first batch. On a machine with other
work, CPU seconds say more than seconds; they include the processes that check images.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from data import examine, loaders, verify

# isort: split
import numpy as np
from fastcore.script import call_parse

PARTS = {  # name: functions, by the module that calls them
    'listing': [(verify, 'list_images')],
    'hashing': [(examine, 'hash_files')],
    'reading earlier results': [(examine, 'load_cache')],
    'checking, decoding, writing': [(examine, '_renew')],
    'splitting': [(verify, 'split_off'), (loaders, 'split_off')],
    'fingerprint': [(loaders, 'fingerprint_files')],
    'duplicates': [(loaders, 'find_duplicates')],
}
FIRST_BATCH = """
from train_fastai import *
dls = get_dls({!r})
get_learner(dls, path='/nowhere')
dls.train.one_batch()
"""


def seconds() -> np.ndarray:
    """Wall-clock seconds, and CPU seconds of this process and of those that it started and that have ended."""
    return np.array([perf_counter(), sum(os.times()[:4])])


def timed(parts: dict[str, np.ndarray], part: str, do: Callable, *args) -> Any:
    """Call `do` and add its seconds to those of the `part`."""
    start = seconds()
    result = do(*args)
    parts[part] = parts.get(part, 0) + seconds() - start
    return result


def start(data: str) -> dict[str, np.ndarray]:
    """Make the loaders; return the seconds of each part and of all."""
    parts = {}
    with ExitStack() as stack:
        for part, functions in PARTS.items():
            for module, name in functions:
                stack.enter_context(patch.object(module, name, partial(timed, parts, part, getattr(module, name))))
        timed(parts, 'all', loaders.get_dls, data)
    rest = 2 * parts['all'] - sum(parts.values())
    return {**parts, 'the rest': rest}


@call_parse
def main(
    data: str = 'digits',  # as --data of train_fastai.py
    firsts: int = 2,  # first starts, without earlier results; the one with the fewest CPU seconds counts
    laters: int = 5,  # later starts; likewise
):
    """Time the starts, and print a table."""
    with TemporaryDirectory() as home:
        os.environ['FASTAI_HOME'] = home
        runs = [], []
        for _ in range(firsts):
            rmtree(Path(home) / 'data/pixels', ignore_errors=True)
            runs[0].append(start(data))
        for _ in range(laters):
            runs[1].append(start(data))
        begin = perf_counter()
        subprocess.run([sys.executable, '-W', 'ignore', '-c', FIRST_BATCH.format(data)], cwd=ROOT, check=True)
        whole = perf_counter() - begin
    best = [min(starts, key=lambda parts: parts['all'][1]) for starts in runs]
    print('| part | first start, s | CPU s | later start, s | CPU s |\n|---|--:|--:|--:|--:|')
    for part in (*PARTS, 'the rest', 'all'):
        print(f'| {part} |', ' | '.join(f'{number:.2f}' for parts in best for number in parts.get(part, (0, 0))), '|')
    print(f'\na new process, from its start to its first batch: {whole:.1f} s')
