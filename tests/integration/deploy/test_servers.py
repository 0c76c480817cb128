"""Programs are made once, servers are stopped by their process, and what is missing is said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from deploy.servers import cache, kafka, processes
from deploy.servers.cache import ServerUnavailable, locked, made_once, run_with_progress
from deploy.servers.processes import Running, recorded, start, stop

SLEEPS = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def home_of(tmp_path: Path) -> Path:
    home = tmp_path / "server"
    home.mkdir()
    return home


def test_program_is_made_once_for_all_who_ask() -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "program").write_text("x")

    assert made_once("thing", "a thing", make) == made_once("thing", "a thing", make)
    assert len(made) == 1


def test_half_made_program_is_not_kept(own_cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "program").write_text("half")
        raise ServerUnavailable("no network")

    with pytest.raises(ServerUnavailable):
        made_once("thing", "a thing", fail)
    assert [path.name for path in own_cache.iterdir()] == ["thing.lock"]


def test_waiting_for_another_process_is_bounded(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", "a thing"),
        pytest.raises(ServerUnavailable, match="still held"),
        locked(tmp_path / "lock", "a thing", timeout_s=0.1),
    ):
        pass


def test_failed_build_shows_the_end_of_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such module')"]
    with pytest.raises(ServerUnavailable, match=r"exit code 1.*no such module"):
        run_with_progress(argv, "building", log=tmp_path / "log", timeout_s=20)


def test_server_is_found_by_its_home_and_stopped(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    running = start([sys.executable, "-c", SLEEPS, str(home)], home=home, address="", ready=lambda: True)
    assert recorded(home) == running
    stop(running)
    assert recorded(home) is None
    assert not running.alive()


def test_reused_process_id_is_not_taken_for_the_server(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    other = {"pid": os.getpid(), "address": "", "home": str(home)}
    (home / "server.json").write_text(json.dumps(other))
    assert recorded(home) is None
    stop(Running(**other))


def test_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('port in use')"]
    with pytest.raises(ServerUnavailable, match="port in use"):
        start(argv, home=home_of(tmp_path), address="", ready=lambda: False)


def test_server_that_never_answers_is_stopped(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    argv = [sys.executable, "-c", SLEEPS, str(home)]
    with pytest.raises(ServerUnavailable, match="did not answer"):
        start(argv, home=home, address="here", ready=lambda: False, timeout_s=0.1)
    assert recorded(home) is None


def test_missing_java_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="install Java 17"):
        kafka.prepare()


def test_missing_maven_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="no mvn"):
        kafka.prepare()


def test_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="needs Java 17"):
        kafka.java()


def test_cache_is_where_the_environment_says(own_cache: Path) -> None:
    assert cache.cache_dir() == own_cache


def test_closed_port_is_no_broker() -> None:
    assert not kafka.answers(processes.free_port())
