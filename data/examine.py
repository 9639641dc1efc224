"""Check all files of a folder of images; only those that are new or have changed are decoded."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from data.check_files import check_files
from data.photographs import Photographs
from data.pixel_cache import Cache, Pixels, Result, Row, free_space, load_cache, write_cache
from data.sizes import Plan, Size
from runtime.files import sha256
from runtime.machine import total_memory
from runtime.progress import progress

SHARE = 1 / 4  # of the machine's memory: more pixels would be read from the disk in each epoch
DISK = 1 / 2  # of the disk's free space


@dataclass(frozen=True)
class Checked:
    """The results for all files: `contents` has the SHA-256 of each, None if it can't be read; `cache` the results."""

    contents: dict[Path, str | None]
    cache: Cache
    problem: str  # why pixels aren't kept

    def pixels(self, files: list[Path], size: Size) -> Pixels:
        """Return the pixels of `files`, all of `size`."""
        return Pixels(self.cache.mapped, np.array([self.cache.good[self.contents[file]][2] for file in files]), size)

    def photographs(self, files: list[Path], side: int) -> Photographs:
        """Return the pixels of `files`, shrunk to `side`; if they weren't kept, files are decoded when read."""
        kept = None if self.problem else [self.cache.good[self.contents[file]] for file in files]
        return Photographs(files, side, self.cache.mapped, kept)


def examine(root: Path, files: list[Path], plan: Plan) -> Checked:
    """Check all `files` below `root`, and keep the pixels that `plan` selects.

    Contents that were checked in an earlier run are only hashed. No pixels are kept if they can't be written, or take
    more than a quarter of the memory or half of the disk's free space.
    """
    contents = hash_files(files)
    distinct = {content: file for file, content in contents.items() if content}
    cache, rooms = load_cache(root), {f'{SHARE:.0%} of memory': SHARE * total_memory()}
    good = {content: cache.good[content] for content in distinct if content in cache.good}
    missing = {content for content, row in good.items() if _is_missing(row, plan)}
    if missing or len(good) < len(distinct):
        rooms[f'{DISK:.0%} of the free disk'] = DISK * free_space()
    problem = _too_large([row[:2] for row in good.values()], plan, rooms)

    def is_new(content: str) -> bool:
        return content not in cache.bad and (content not in good or (content in missing and not problem))

    new = {file: content for content, file in distinct.items() if is_new(content)}
    if new or len(distinct) < len(cache.good) + len(cache.bad):
        cache, problem = _renew(root, cache, distinct, new, plan, rooms)
    return Checked(contents, cache, problem)


def _is_missing(row: Row, plan: Plan) -> bool:
    """Whether `plan` selects the pixels of an image, but the cache doesn't have them; `row` is one of `Cache.good`."""
    height, width, start, side = row
    size = height, width
    return plan.side_for(size) is not None and (start is None or not plan.matches(size, side))


def hash_files(files: list[Path]) -> dict[Path, str | None]:
    """Return the `sha256` of each file."""
    return {file: sha256(file) for file in progress(files, 'reading images')}


def _renew(
    root: Path, cache: Cache, distinct: dict[str, Path], new: dict[Path, str], plan: Plan, rooms: dict[str, float]
) -> tuple[Cache, str]:
    """Check the `new` files, and write a cache of all `distinct` contents. Also return why no pixels are kept."""
    found: dict[str, Size | str] = {}

    def earlier(content: str) -> Result:
        _, size, pixels, side = cache.result(content)
        return content, size, pixels if pixels is not None and plan.matches(size, side) else None, side

    def results() -> Iterator[Result]:
        checks = zip(new.values(), progress([*new], 'checking images'), check_files(new, plan.side_for), strict=True)
        need = 0
        for content, result, pixels, side in chain(
            (earlier(content) for content, file in distinct.items() if file not in new),
            ((content, *check) for content, _, check in checks),
        ):
            found[content] = result
            need += 0 if pixels is None else len(pixels)
            yield content, result, pixels if need <= min(rooms.values()) else None, side

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
    if problem := _too_large([*good.values()], plan, rooms) or problem:
        bad = {content: result for content, result in found.items() if content not in good}
        written = Cache({content: (*size, None, 0) for content, size in good.items()}, bad)
        with suppress(OSError):
            write_cache(root, map(written.result, found))
    return written, problem


def _too_large(sizes: list[Size], plan: Plan, rooms: dict[str, float]) -> str:
    """Why the pixels of images of these `sizes` aren't kept; '' if they fit. `rooms` has bytes by name."""
    need = plan.bytes(sizes)
    for name, room in rooms.items():
        if need > room:
            return f'all take {need / 2**30:.1f} GiB, over {name}'
    return ''
