"""How a folder of images is laid out: where its splits and its classes are, or what is nearly right about it."""

import os
from collections.abc import Iterable
from pathlib import Path

from data.leftovers import is_leftover
from errors import UserError, printable

LONGEST = 200  # bytes of a class's name, which becomes a file's with something before and after; most systems have 255
LAYOUTS = 'train/<class>/ and test/<class>/, perhaps valid/<class>/ too, or of <class>/ alone'
WAYS_OUT = f'pass --data PATH (a folder or .tgz of {LAYOUTS}) or --data digits'
SPLITS = {'train': 'train', 'valid': 'valid', 'val': 'valid', 'test': 'test'}  # what their folders are called
MEANT = {**SPLITS, 'training': 'train', 'validation': 'valid', 'testing': 'test'}  # and might be, in any case
A_FIFTH = 'a fifth of each class is the test set then'


def visible(folder: Path) -> list[Path]:
    """Entries of `folder` sorted by name, without hidden ones, what systems leave, and runs."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries if not is_leftover(entry))]


def subfolders(folder: Path) -> list[Path]:
    """Those of its visible entries that are folders."""
    return [entry for entry in visible(folder) if entry.is_dir()]


def unwrapped(folder: Path) -> Path | None:
    """The folder with the splits or the classes: `folder` or one inside, wrapped in others; None if there is none."""
    while inside := subfolders(folder):
        if any(sub.name.lower() in MEANT for sub in inside):
            return folder
        wrapped = [sub for sub in inside if (sub / 'train').is_dir()]  # beside which may be others
        if len(inside) > 1 and len(wrapped) != 1:
            return folder
        (folder,) = wrapped or inside
    return None


def find_splits(path: Path) -> dict[str, Path]:
    """The folders of 'train', of 'valid' if there is one, and of 'test'; of 'train' alone where `path` has classes.

    Raises UserError for what is nearly one of the two: a split that is missing, there twice, or called otherwise.
    """
    folders, here = subfolders(path), printable(path)
    meant = {folder: MEANT[folder.name.lower()] for folder in folders if folder.name.lower() in MEANT}
    flat = not any(map(subfolders, meant))
    if len({*meant.values()}) < 2 and flat:
        return {'train': path}  # a class may well be called train
    if flat and len(folders) > len(meant):
        raise UserError(
            f'{here}: {_listed(meant)} have no class folders inside, as splits have. If they are classes, rename them, '
            f'for example to {next(iter(meant)).name}_/; if they are splits, sort their images into class folders'
        )
    found = {}
    for folder, split in meant.items():
        if folder.name not in SPLITS:
            raise UserError(f'{printable(folder)} is not looked at: is it {split}/? Then rename it')
        if split in found:
            raise UserError(
                f'{here} has both {found[split].name}/ and {folder.name}/: rename one that is not to validate'
            )
        found[split] = folder
    if 'train' not in found:
        one = printable(found.get('test') or found['valid'])
        raise UserError(
            f'{here} has {_listed(found.values())}, but no train/: add the training images as train/<class>/, or pass '
            f'--data {one} ({A_FIFTH})'
        )
    train = printable(found['train'])
    if 'test' not in found:
        rename = f'rename {found["valid"].name}/ to test/, or ' if 'valid' in found else 'add test/<class>/, or '
        raise UserError(f'{here} has {_listed(found.values())}, but no test/: {rename}pass --data {train} ({A_FIFTH})')
    for folder in (found[split] for split in ('valid', 'test') if split in found and subfolders(found['train'])):
        if not subfolders(folder):
            raise UserError(
                f'{printable(folder)} has no class folders, so that nothing says what its images show: sort them into '
                f'{folder.name}/<class>/, or pass --data {train} ({A_FIFTH})'
            )
    return {split: found[split] for split in ('train', 'valid', 'test') if split in found}


def find_classes(path: Path, splits: dict[str, Path]) -> list[str]:
    """The names of the class folders, which all `splits` of `path` must have; UserError else, or for fewer than two."""
    for entry in (entry for split in splits.values() for entry in visible(split)):
        if entry.is_symlink() and not entry.exists():
            raise UserError(f'{printable(entry)} is a broken link: mend it, or move it away')
        if entry.is_dir() and entry.name != entry.name.encode(errors='replace').decode():
            raise UserError(f'{printable(entry)}: its name is not UTF-8, rename it')
        if len(os.fsencode(entry.name)) > LONGEST:
            raise UserError(
                f'{printable(entry)}: more than {LONGEST} bytes are too long for the name of a class, rename it'
            )
    for split in splits.values():
        _refuse_nested(split, path)
    train, *others = splits.values()
    names = [folder.name for folder in subfolders(train)]
    for other in others:
        for name in sorted({*names} ^ {folder.name for folder in subfolders(other)}):
            here, there = (train, other) if name in names else (other, train)
            raise UserError(
                f'{printable(here / name)} has no counterpart in {there.name}/: each class needs images in both. Add '
                f'some there, or move this folder out of {here.name}/'
            )
    if len(names) < 2:
        has = f'only one class folder, {printable(names[0])}/' if names else 'no class folders'
        raise UserError(
            f'{printable(train)} has {has}: sort its images into a folder for each of two or more classes; '
            f'--data takes a folder of {LAYOUTS}'
        )
    return names


def _refuse_nested(folder: Path, path: Path) -> None:
    """UserError where a class folder of `folder` holds nothing but folders; `path` is what --data names."""
    classes = subfolders(folder)
    nested = [sub for sub in classes if (inside := visible(sub)) and all(entry.is_dir() for entry in inside)]
    if not nested:
        return
    where, sub = printable(folder), printable(nested[0])
    ask = f'the data set? --data {sub}'
    if folder == path and len(classes) == 1:
        raise UserError(f'{where} has nothing but {printable(nested[0].name)}/: is that {ask}')
    if folder == path and len(nested) == 1:
        raise UserError(f'{sub} has only folders inside, no images: is that {ask}')
    other = f'; is it {ask}' if folder == path else ''
    raise UserError(
        f"{sub} has only folders inside, but a class's images lie directly in its folder: "
        f'if the folders inside are the classes, move them up into {where}{other}'
    )


def _listed(folders: Iterable[Path]) -> str:
    return ' and '.join(f'{printable(folder.name)}/' for folder in folders)
