"""Where the agent works: copies of the repository, edits to them, and their tests run for real.

The repository itself is never written. A run has a directory of its own: `original/`, and
`round-1/`, `round-2/`, … for each patch that was tried; all are kept, so that a person can look at every one.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from headgate import NonRetryable

SKIPPED = {".git", ".headgate", ".venv", "venv", "node_modules", "__pycache__", ".pytest_cache", ".tox"}
MAX_FILE_BYTES = 200_000
"""Files above this are not source code that a model should read."""
MAX_OUTPUT_BYTES = 6_000
"""The end of the tests' output that is kept: it is where pytest says what failed."""

_PYTEST_SETTINGS = {
    "pytest.ini": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}


class Edit(BaseModel):
    """One change: `find`, which occurs once in `file`, becomes `replace`; an empty `find` makes the file."""

    file: str
    find: str
    replace: str


class TestReport(BaseModel):
    """What the tests said."""

    passed: bool
    output: str


class EditRefused(Exception):
    """An edit that cannot be made; the message is for the model."""


def copy_with(edits: Sequence[Edit], source: Path, target: Path) -> None:
    """Make `target` a copy of `source` with `edits` made in it.

    The directory appears complete or not at all, and one that is there is kept: whoever repeats this
    after a crash finds what it would have made.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        copy = Path(scratch, target.name)
        shutil.copytree(source, copy, symlinks=True, ignore=_not_copied(target.parent.resolve()))
        for edit in edits:
            _make(edit, copy)
        with contextlib.suppress(OSError):  # somebody else made the same directory first
            copy.rename(target)


def source_files(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of every text file below `directory`, in order of name."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_symlink() or not path.is_file() or SKIPPED.intersection(name.parts):
            continue
        if path.stat().st_size <= MAX_FILE_BYTES:
            with contextlib.suppress(UnicodeDecodeError):
                yield name.as_posix(), path.read_text(encoding="utf-8")


def diff(before: Path, after: Path) -> str:
    """Return the unified diff of two copies, ready for `git apply`."""
    old, new = dict(source_files(before)), dict(source_files(after))
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        was, now = (files.get(name, "").splitlines(keepends=True) for files in (old, new))
        origin = f"a/{name}" if name in old else "/dev/null"
        lines += difflib.unified_diff(was, now, origin, f"b/{name}")
    return "".join(lines)


async def run_pytest(directory: Path, python: str, timeout_s: float) -> TestReport:
    """Run the tests of `directory` in a process of their own and report how they ended.

    What runs there was written by a model: it gets no keys from the environment, and its whole process
    group is killed at the timeout and when the execution is cancelled.
    """
    arguments = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_no_foreign_settings(directory)]
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=directory,
            env=_environment(),
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            exit_code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            return TestReport(passed=False, output=f"the tests did not end within {timeout_s:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        output.seek(max(0, output.seek(0, os.SEEK_END) - MAX_OUTPUT_BYTES))
        text = output.read().decode(errors="replace")
    if text.rstrip().endswith("No module named pytest"):
        raise NonRetryable(f"{python} has no pytest: install it there (pip install pytest) and run again")
    return TestReport(passed=exit_code == 0, output=text)


def _make(edit: Edit, directory: Path) -> None:
    path = (directory / edit.file).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise EditRefused(f"{edit.file} is outside the repository")
    if not edit.find and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(edit.replace, encoding="utf-8")
        return
    if path.name.startswith("test_") or path.name == "conftest.py":
        raise EditRefused(f"{edit.file} is there to judge the patch and may not be edited")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not edit.find or text.count(edit.find) != 1:
        raise EditRefused(f"`find` occurs {text.count(edit.find)} times in {edit.file}, not exactly once")
    path.write_text(text.replace(edit.find, edit.replace), encoding="utf-8")


def _not_copied(work: Path) -> Callable[[str, list[str]], set[str]]:
    def names(directory: str, entries: list[str]) -> set[str]:
        return {name for name in entries if name in SKIPPED or Path(directory, name).resolve() == work}

    return names


def _no_foreign_settings(directory: Path) -> list[str]:
    """Return what keeps pytest from reading the settings of whatever project lies around the copy."""
    for name, section in _PYTEST_SETTINGS.items():
        if (directory / name).is_file() and section in (directory / name).read_text(encoding="utf-8"):
            return []
    return ["-c", os.devnull, "--rootdir", ".", "--confcutdir", "."]


def _environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    # Two patches within a second would look the same to Python's bytecode cache.
    return {"PYTHONDONTWRITEBYTECODE": "1"} | {name: os.environ[name] for name in kept if name in os.environ}
