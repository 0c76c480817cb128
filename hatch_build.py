"""Makes the protobuf classes from `protos/` whenever the distribution is built or installed for editing.

Also run by hand: `python hatch_build.py` is what `make proto-gen` calls.
"""

from __future__ import annotations

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


class ProtobufBuildHook(BuildHookInterface[Any]):
    """Hatch's way in."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the classes before the files of the wheel are collected."""
        generate(Path(self.root))


if __name__ == "__main__":
    for made in generate(Path(__file__).parent):
        print(made.relative_to(Path(__file__).parent))
