"""A machine without PostgreSQL says how to get one; one that has it is used as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.servers import postgres
from deploy.servers.cache import ServerUnavailable


def test_without_the_package_and_without_root_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_INSTALLED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="install the package postgresql"):
        postgres.prepare()


def test_the_newest_version_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_INSTALLED", tmp_path)
    for version in ("9", "15"):
        for program in ("initdb", "postgres"):
            path = tmp_path / version / "bin" / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert postgres.prepare() == tmp_path / "15/bin"
