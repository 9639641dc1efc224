"""Check that importing this folder's modules doesn't import other modules of the same names."""

import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent


def refuse_hidden_modules() -> None:
    """Raise ImportError, naming both files, if another module hides one of this folder's, whose names are common."""
    hidden = []
    for entry in sorted(HOME.iterdir()):
        file = entry / '__init__.py' if entry.is_dir() else entry
        name = entry.name.removesuffix('.py')
        if file.suffix != '.py' or not file.is_file() or not name.isidentifier() or name in sys.stdlib_module_names:
            continue
        spec = getattr(sys.modules[name], '__spec__', None) if name in sys.modules else find_spec(name)
        # a namespace package (no __init__.py) has no origin, and hides a module only once it is imported
        found = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        if found and Path(found).resolve() != file:
            hidden.append(f'{found} hides {file}')
    if hidden:
        way_out = f'rename it, or begin with sys.path.insert(0, {str(HOME)!r}); then restart Python'
        raise ImportError(f'{"; ".join(hidden)}: {way_out}')
