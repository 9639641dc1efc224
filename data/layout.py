"""How a folder of images is laid out: where its splits and its classes are, or what is nearly right about it."""

import os
from pathlib import Path

from errors import UserError, printable

LONGEST = 200  # bytes of a class's name, which becomes a file's with something before and after; most systems have 255
LAYOUTS = 'train/<class>/ and test/<class>/, perhaps valid/<class>/ too, or of <class>/ alone'
SPLITS = {'train': 'train', 'valid': 'valid', 'val': 'valid', 'test': 'test'}  # what their folders are called
MEANT = {**SPLITS, 'training': 'train', 'validation': 'valid', 'testing': 'test'}  # and might be, in any case


def visible(folder: Path) -> list[Path]:
    """Entries of `folder` sorted by name, without hidden ones such as .DS_Store."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))


def subfolders(folder: Path) -> list[Path]:
    """Those of its visible entries that are folders."""
    return [entry for entry in visible(folder) if entry.is_dir()]


def find_splits(path: Path) -> dict[str, Path]:
    """The folders of 'train', of 'valid' if there is one, and of 'test'; of 'train' alone where `path` has classes.

    Raises UserError for what is nearly one of the two: a split that is missing, there twice, or called otherwise.
    """
    meant = {folder: MEANT[folder.name.lower()] for folder in subfolders(path) if folder.name.lower() in MEANT}
    if len({*meant.values()}) < 2 and not any(map(subfolders, meant)):
        return {'train': path}  # a class may well be called train
    found = {}
    for folder, split in meant.items():
        if folder.name not in SPLITS:
            raise UserError(f'{folder} is not looked at: is it {split}/? Then rename it')
        if split in found:
            raise UserError(
                f'{path} has both {found[split].name}/ and {folder.name}/: rename one that is not to validate'
            )
        found[split] = folder
    for split in 'train', 'test':
        if split not in found:
            there = ' and '.join(f'{folder.name}/' for folder in found.values())
            raise UserError(f'{path} has {there}, but no {split}/: --data takes a folder of {LAYOUTS}')
    return {split: found[split] for split in ('train', 'valid', 'test') if split in found}


def find_classes(path: Path, splits: dict[str, Path]) -> list[str]:
    """The names of the class folders, which all `splits` of `path` must have; UserError else, or for fewer than two."""
    for entry in (entry for split in splits.values() for entry in visible(split)):
        if entry.is_symlink() and not entry.exists():
            raise UserError(f'{entry} is a broken link: mend it, or delete it')
        if entry.is_dir() and entry.name != entry.name.encode(errors='replace').decode():
            raise UserError(f'{printable(entry)}: its name is not UTF-8, rename it')
        if len(os.fsencode(entry.name)) > LONGEST:
            raise UserError(f'{entry}: more than {LONGEST} bytes are too long for the name of a class, rename it')
    train, *others = splits.values()
    names = [folder.name for folder in subfolders(train)]
    for other in others:
        for name in sorted({*names} ^ {folder.name for folder in subfolders(other)}):
            here, there = (train, other) if name in names else (other, train)
            raise UserError(f'{here / name} has no counterpart in {there.name}/: each class needs images in both')
    if len(names) < 2 and not others:
        if names and subfolders(train / names[0]):
            raise UserError(f'{path} has nothing but {names[0]}/: is that the data set? --data {train / names[0]}')
        raise UserError(f'{path} has {len(names)} class folders: --data takes a folder of {LAYOUTS}')
    if len(names) < 2:
        raise UserError(f'{train} needs two or more class folders: it has {len(names)}')
    return names
