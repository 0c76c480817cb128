"""Finds a user's handlers, in a directory beside a graph or in one Python file. Called by the front door."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from headgate_graphs.errors import UserError
from headgate_workers.handlers import HandlerRegistry, handlers_in
from headgate_workers.outcome import one_line


def load_handlers(path: Path) -> HandlerRegistry:
    """Return the handlers of a Python file, or of a directory's `handlers.py`, `tasks/*.py` and `plans/*.py`.

    The directory is put on `sys.path`, so that handlers may import what stands beside them. A directory
    without handlers is fine (the ready ones are always there), a file without any is not.

    Raises:
        UserError: There is no such path, a file does not import, or two handlers serve one type.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file or directory")
    root = path if path.is_dir() else path.parent
    _put_on_path(root)
    modules = [_import(file) for file in (_files_in(path) if path.is_dir() else [path])]
    if path.is_file() and not any(any(handlers_in(module)) for module in modules):
        raise UserError(f"{path}: no function here is decorated with @task or @plan")
    registry = HandlerRegistry.from_modules(modules)
    registry.check()
    return registry


def _files_in(directory: Path) -> list[Path]:
    files = [
        directory / "handlers.py",
        *sorted(directory.glob("tasks/*.py")),
        *sorted(directory.glob("plans/*.py")),
    ]
    return [file for file in files if file.is_file() and not file.name.startswith("_")]


def _put_on_path(directory: Path) -> None:
    text = str(directory.resolve())
    if text not in sys.path:
        sys.path.insert(0, text)


def _import(file: Path) -> ModuleType:
    resolved = file.resolve()
    # Two graphs may both have a handlers.py: the name tells them apart.
    name = f"headgate_handlers_{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise UserError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(
            f"{file}: does not import: {one_line(f'{type(error).__name__}: {error}', 500)}"
        ) from error
    return module
