"""Check all files of a folder of images; only those that are new or have changed are decoded."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np

from data.check_files import check_files
from data.pixel_cache import Cache, Pixels, Result, load_cache, write_cache
from data.sizes import Size, may_stay
from runtime.files import sha256
from runtime.machine import total_memory
from runtime.progress import progress

SHARE = 1 / 4  # of the machine's memory: more pixels would be read from the disk in each epoch


@dataclass(frozen=True)
class Checked:
    """The results for all files: `contents` has the SHA-256 of each, None if it can't be read; `cache` the results."""

    contents: dict[Path, str | None]
    cache: Cache
    problem: str  # why pixels aren't kept

    def pixels(self, files: list[Path], size: Size) -> Pixels:
        """Return the pixels of `files`, all of `size`."""
        return Pixels(self.cache.mapped, np.array([self.cache.good[self.contents[file]][2] for file in files]), size)


def examine(root: Path, files: list[Path], wanted: int | None) -> Checked:
    """Check all `files` below `root`, and keep the pixels of those that `may_stay` as they are, given `wanted`.

    Contents that were checked in an earlier run are only hashed. No pixels are kept if they can't be written, or take
    more than a quarter of the memory.
    """
    contents = hash_files(files)
    distinct = {content: file for file, content in contents.items() if content}
    cache, keeps = load_cache(root), partial(may_stay, wanted=wanted)
    problem = _too_large([tuple(cache.good[content][:2]) for content in distinct if content in cache.good], keeps)

    def is_new(content: str) -> bool:
        if content not in cache.good:
            return content not in cache.bad
        *size, start = cache.good[content]
        return start is None and not problem and keeps(tuple(size))

    new = {file: content for content, file in distinct.items() if is_new(content)}
    if new or len(distinct) < len(cache.good) + len(cache.bad):
        cache, problem = _renew(root, cache, distinct, new, keeps)
    return Checked(contents, cache, problem)


def hash_files(files: list[Path]) -> dict[Path, str | None]:
    """Return the `sha256` of each file."""
    return {file: sha256(file) for file in progress(files, 'reading images')}


def _renew(
    root: Path, cache: Cache, distinct: dict[str, Path], new: dict[Path, str], keeps: Callable[[Size], bool]
) -> tuple[Cache, str]:
    """Check the `new` files, and write a cache of all `distinct` contents. Also return why no pixels are kept."""
    found: dict[str, Size | str] = {}

    def results() -> Iterator[Result]:
        earlier = (cache.result(content) for content, file in distinct.items() if file not in new)
        checks = zip(new.values(), progress([*new], 'checking images'), check_files(new, keeps), strict=True)
        need = 0
        for content, result, pixels in chain(earlier, ((content, *check) for content, _, check in checks)):
            found[content] = result
            need += 0 if pixels is None else len(pixels)
            yield content, result, pixels if need <= SHARE * total_memory() else None

    remaining, problem = results(), ''
    try:
        written = write_cache(root, remaining)
    except OSError as e:
        for _ in remaining:
            pass
        if len(found) < len(distinct):  # not the cache has failed, but the check
            raise
        problem = str(e)
    good = {content: result for content, result in found.items() if not isinstance(result, str)}
    if problem := _too_large([*good.values()], keeps) or problem:
        bad = {content: result for content, result in found.items() if content not in good}
        written = Cache({content: (*size, None) for content, size in good.items()}, bad)
        with suppress(OSError):
            write_cache(root, map(written.result, found))
    return written, problem


def _too_large(sizes: list[Size], keeps: Callable[[Size], bool]) -> str:
    """Why the pixels of images of these `sizes` aren't kept; '' if they fit into a quarter of the memory."""
    need = 3 * sum(map(prod, filter(keeps, sizes)))
    fits = need <= SHARE * total_memory()
    return '' if fits else f'all take {need / 2**30:.1f} GiB, over {SHARE:.0%} of memory'
