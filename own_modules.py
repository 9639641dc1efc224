"""Whether Python finds this folder's modules by their names, or others of the same names."""

import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent


def refuse_hidden_modules() -> None:
    """ImportError that names each module of this folder that another one hides, and where that is.

    Names such as `models` and `data` are common: a notebook's own folder and installed packages come first.
    """
    hidden = []
    for entry in sorted(HOME.iterdir()):
        file = entry / '__init__.py' if entry.is_dir() else entry
        name = entry.name.removesuffix('.py')
        if file.suffix != '.py' or not file.is_file() or not name.isidentifier() or name in sys.stdlib_module_names:
            continue
        spec = getattr(sys.modules[name], '__spec__', None) if name in sys.modules else find_spec(name)
        # a folder without an __init__.py has no origin, and hides a module only once it's imported
        found = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        if found and Path(found).resolve() != file:
            hidden.append(f'{found} hides {file}')
    if hidden:
        raise ImportError(
            f'{"; ".join(hidden)}: rename it, or begin with sys.path.insert(0, {str(HOME)!r}); then restart Python'
        )
