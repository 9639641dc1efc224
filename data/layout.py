"""Find the splits and classes in a folder of images; refuse near misses with a hint."""

import os
from collections.abc import Iterable
from pathlib import Path

from data.leftovers import is_leftover
from runtime.errors import UserError, printable

LONGEST = 200  # bytes of a class's name, which file names contain; most systems allow 255 in a name

LAYOUTS = 'train/<class>/ and test/<class>/, perhaps valid/<class>/ too, or of <class>/ alone'
WAYS_OUT = f'pass --data PATH (a folder, .tgz or .zip of {LAYOUTS}; or a CSV) or --data digits'
SPLITS = {'train': 'train', 'valid': 'valid', 'val': 'valid', 'test': 'test'}  # folder name: split
MEANT = {**SPLITS, 'training': 'train', 'validation': 'valid', 'testing': 'test'}  # likely names in any case, for hints
A_FIFTH = 'a fifth of each class then becomes the test set'


def visible(folder: Path) -> list[Path]:
    """List the entries of `folder` by name, without hidden files, leftovers of systems, and runs."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries if not is_leftover(entry))]


def subfolders(folder: Path) -> list[Path]:
    """List the visible entries of `folder` that are folders."""
    return [entry for entry in visible(folder) if entry.is_dir()]


def unwrapped(folder: Path) -> Path | None:
    """Return the folder with the splits or classes, `folder` itself or a nested one; None if there is none."""
    while inside := subfolders(folder):
        if any(sub.name.lower() in MEANT for sub in inside):
            return folder
        wrapped = [sub for sub in inside if (sub / 'train').is_dir()]  # other folders may lie beside it
        if len(inside) > 1 and len(wrapped) != 1:
            return folder
        (folder,) = wrapped or inside
    return None


def find_splits(path: Path) -> dict[str, Path]:
    """Return the folders of the splits: 'train', perhaps 'valid' and 'test'; UserError for a near miss.

    If `path` has class folders, it is 'train'. Without test/<class>/ the folder valid/ or val/ is 'test'. A test/
    without class folders is 'unlabelled'.
    """
    folders, here = subfolders(path), printable(path)
    meant = {folder: MEANT[folder.name.lower()] for folder in folders if folder.name.lower() in MEANT}
    flat = not any(map(subfolders, meant))
    if len({*meant.values()}) < 2 and flat:
        return {'train': path}  # a class may well be called train
    if flat and len(folders) > len(meant):
        rename = f'rename them, for example to {next(iter(meant)).name}_/'
        way_out = f'If they are classes, {rename}; if they are splits, sort their images into class folders'
        raise UserError(f'{here}: {_listed(meant)} have no class folders inside. {way_out}')
    found = {}
    for folder, split in meant.items():
        if folder.name not in SPLITS:
            raise UserError(f'{printable(folder)} is not used: if it is {split}/, rename it')
        if split in found:
            raise UserError(f'{here} has both {found[split].name}/ and {folder.name}/: rename the one not to use')
        found[split] = folder
    if 'train' not in found:
        one = printable(found.get('test') or found['valid'])
        way_out = f'add the training images as train/<class>/, or pass --data {one} ({A_FIFTH})'
        raise UserError(f'{here} has {_listed(found.values())}, but no train/: {way_out}')
    labelled = bool(subfolders(found['train']))
    if labelled and 'test' in found and not subfolders(found['test']):
        found['unlabelled'] = found.pop('test')
    if labelled and 'valid' in found and not subfolders(found['valid']):
        folder = found['valid']
        way_out = f'sort them into {folder.name}/<class>/, or pass --data {printable(found["train"])} ({A_FIFTH})'
        raise UserError(f'{printable(folder)} has no class folders, so its images have no labels: {way_out}')
    if 'valid' in found and 'test' not in found:
        found['test'] = found.pop('valid')
    return {split: found[split] for split in ('train', 'valid', 'test', 'unlabelled') if split in found}


def find_classes(path: Path, splits: dict[str, Path]) -> list[str]:
    """Return the names of the class folders; raises UserError if `splits` differ or have fewer than two classes."""
    for entry in (entry for split in splits.values() for entry in visible(split)):
        if entry.is_symlink() and not entry.exists():
            raise UserError(f'{printable(entry)} is a broken link: fix it, or move it away')
        if entry.is_dir() and entry.name != entry.name.encode(errors='replace').decode():
            raise UserError(f'{printable(entry)}: its name is not UTF-8, rename it')
        if len(os.fsencode(entry.name)) > LONGEST:
            raise UserError(f'{printable(entry)}: a class name may have at most {LONGEST} bytes, rename it')
    for split in splits.values():
        _refuse_nested(split, path)
    train, *others = splits.values()
    names = [folder.name for folder in subfolders(train)]
    for other in others:
        for name in sorted({*names} ^ {folder.name for folder in subfolders(other)}):
            here, there = (train, other) if name in names else (other, train)
            way_out = f'Add some there, or move this folder out of {here.name}/'
            missing = f'{printable(here / name)} has no counterpart in {there.name}/: each class needs images in both'
            raise UserError(f'{missing}. {way_out}')
    if len(names) < 2:
        has = f'only one class folder, {printable(names[0])}/' if names else 'no class folders'
        way_out = f'sort its images into a folder for each of two or more classes; --data takes a folder of {LAYOUTS}'
        raise UserError(f'{printable(train)} has {has}: {way_out}')
    return names


def _refuse_nested(folder: Path, path: Path) -> None:
    """Raise UserError if a class folder of `folder` holds only folders; `path` is the value of --data."""
    classes = subfolders(folder)
    nested = [sub for sub in classes if _has_only_folders(sub)]
    if not nested:
        return
    where, sub = printable(folder), printable(nested[0])
    ask = f'the data set? Then pass --data {sub}'
    if folder == path and len(nested) == 1:
        raise UserError(f'{sub} has only folders inside, no images: is that {ask}')
    other = f'; is it {ask}' if folder == path else ''
    raise UserError(
        f"{sub} has only folders inside, but a class's images lie directly in its folder: "
        f'if the folders inside are the classes, move them up into {where}{other}'
    )


def _has_only_folders(folder: Path) -> bool:
    """Whether all visible entries of `folder` are folders, and there is one; stops at the first image of a class."""
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_leftover(entry):
                if not Path(entry).is_dir():
                    return False
                found = True
    return found


def _listed(folders: Iterable[Path]) -> str:
    return ' and '.join(f'{printable(folder.name)}/' for folder in folders)
