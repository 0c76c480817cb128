"""Makes the protobuf classes from `protos/` whenever the distribution is built or installed for editing.

Also run by hand: `python hatch_build.py` is what `make proto-gen` calls, and with `--compile` what `make
compiled` does: the fold as machine code beside its source, which Python then prefers. A wheel that is built
from a tree with a compiled fold in it holds that, and is for one platform.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def generate(root: Path) -> list[Path]:
    """Run protoc over `protos/**/*.proto`, writing the classes beside them; return the sources."""
    from grpc_tools import protoc

    protos = root / "protos"
    sources = sorted(protos.rglob("*.proto"))
    well_known = Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{protos}", f"-I{well_known}", f"--python_out={protos}", f"--pyi_out={protos}"]
    if protoc.main([*arguments, *(str(path) for path in sources)]) != 0:
        raise RuntimeError("protoc refused protos/; its message is above")
    return sources


FOLD = Path("headgate_guardrails/fold")
INTERPRETED = ("__init__.py", "rules.py")
"""mypyc evaluates the types of a named tuple's fields, and `rules` may not import those of its own."""


def compile_fold(root: Path) -> list[Path]:
    """Compile the fold with mypyc, in place; return the libraries. Needs a C compiler and Python's headers.

    Raises CalledProcessError; mypyc has said why.
    """
    remove_compiled(root)
    folder = root / "guardrails"
    modules = sorted(path for path in (folder / FOLD).glob("*.py") if path.name not in INTERPRETED)
    names = [path.relative_to(folder).as_posix() for path in modules]
    try:
        subprocess.run(
            [sys.executable, "-m", "mypyc", *names], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    finally:
        shutil.rmtree(folder / "build", ignore_errors=True)
    return list(compiled(root))


def compiled(root: Path) -> Iterator[Path]:
    """Yield the compiled libraries that lie in a tree: one for each module, and what they share."""
    for folder in (root / "guardrails", root / "guardrails" / FOLD):
        yield from sorted([*folder.glob("*.so"), *folder.glob("*.pyd")])


def remove_compiled(root: Path) -> None:
    """Go back to the fold as it is written."""
    for library in compiled(root):
        library.unlink()


class HeadgateBuildHook(BuildHookInterface[Any]):
    """Hatch's way in."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the classes before the files of the wheel are collected; take compiled libraries along."""
        root = Path(self.root)
        generate(root)
        libraries = list(compiled(root)) if self.target_name == "wheel" and version == "standard" else []
        if libraries:
            build_data["pure_python"], build_data["infer_tag"] = False, True
            guardrails = root / "guardrails"
            build_data["force_include"] |= {
                str(one): one.relative_to(guardrails).as_posix() for one in libraries
            }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true", help="compile the fold in place")
    parser.add_argument("--no-compile", action="store_true", help="remove the compiled fold")
    asked, here = parser.parse_args(), Path(__file__).parent
    if asked.no_compile:
        remove_compiled(here)
    else:
        for made in compile_fold(here) if asked.compile else generate(here):
            print(made.relative_to(here))
