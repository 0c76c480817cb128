"""PostgreSQL from the system's package (Debian's `postgresql`), as a server of its own on a free port."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.servers.cache import ServerUnavailable, cache_dir, locked, run_with_progress, say
from deploy.servers.processes import Running, free_port, recorded, start

USER = "headgate"
"""Whom it knows, with no password: it listens on 127.0.0.1 alone and is thrown away."""
DATABASE = "postgres"
HOW = (
    "set HEADGATE_TEST_POSTGRES=postgresql://user:password@host:port/database, or install the package "
    "postgresql (Debian: apt-get install postgresql)"
)
_INSTALLED = Path("/usr/lib/postgresql")
_NOBODY = "nobody"
"""Whom it runs as when we are root: the server refuses that."""


def prepare() -> Path:
    """Return the folder with initdb and postgres; installs Debian's package the first time, when we may."""
    found = _programs()
    if found is None:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise ServerUnavailable(f"there is no PostgreSQL: {HOW}")
        with locked(cache_dir() / "postgresql.lock", "PostgreSQL"):
            found = _programs() or _install()
    return found


def _programs() -> Path | None:
    """Return the newest version that is installed, in the place of the package or on the path."""
    folders = [path.parent for path in _INSTALLED.glob("*/bin/initdb")]
    folders.sort(key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)])
    on_path = shutil.which("initdb")
    if not folders and on_path is not None:
        folders = [Path(on_path).resolve().parent]
    return folders[-1] if folders and (folders[-1] / "postgres").exists() else None


def _install() -> Path:
    """Install the package, but let it make and start nothing of its own."""
    settings = Path("/etc/postgresql-common/createcluster.d/headgate.conf")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("create_main_cluster = false\n")
    log = cache_dir() / "postgresql.log"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run_with_progress(["apt-get", "update"], "asking apt what there is", log=log, timeout_s=300, env=quiet)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "postgresql"]
    run_with_progress(install, "installing PostgreSQL", log=log, timeout_s=900, env=quiet)
    found = _programs()
    if found is None:
        raise ServerUnavailable(f"the package postgresql has brought no server: {HOW}")
    return found


def run(home: Path, port: int = 0) -> Running:
    """Start a server whose log lives in `home`, or return the one that already runs there.

    Port 0 takes a free one. Its data are in `home/cluster`, which leads to a temporary directory when we are
    root: the user it runs as may not enter ours.
    """
    home = home.resolve()
    if (running := recorded(home)) is not None:
        return running
    programs = prepare()
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    user = _NOBODY if os.geteuid() == 0 else None
    cluster = _cluster(home, programs, user)
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",
        "fsync": "off",  # of a server that is thrown away: a crash of the machine is not tested with it
        "headgate.home": str(home),  # means nothing to it, and tells the process from others
    }
    settings = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
    say(f"starting PostgreSQL on 127.0.0.1:{port}")
    # It finds its own program from the current folder, which the user it runs as may not enter.
    as_user = ["env", "-C", "/", "setpriv", f"--reuid={user}", "--clear-groups"] if user else []
    return start(
        [*as_user, str(programs / "postgres"), "-D", str(cluster), "-p", str(port), *settings],
        home=home,
        address=f"127.0.0.1:{port}",
        ready=lambda: answers(programs, port),
    )


def _cluster(home: Path, programs: Path, user: str | None) -> Path:
    """Return the folder of the data, made the first time."""
    link = home / "cluster"
    if link.exists():
        return link.resolve()
    folder = link
    if user is not None:
        folder = Path(tempfile.mkdtemp(prefix="headgate-postgres-"))
        shutil.chown(folder, user)
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    argv = [str(programs / "initdb"), "-D", str(folder), "-U", USER, "--auth=trust", "--no-sync"]
    done = subprocess.run(
        [*argv, "--encoding=UTF8", "--locale=C"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        user=user,
        cwd="/",
    )
    if done.returncode != 0:
        raise ServerUnavailable(f"initdb could not make {folder}: {done.stdout}{done.stderr}")
    return folder


def answers(programs: Path, port: int) -> bool:
    """Tell whether the server takes connections."""
    argv = [
        str(programs / "pg_isready"),
        "--host=127.0.0.1",
        f"--port={port}",
        f"--username={USER}",
        "--quiet",
    ]
    return subprocess.run(argv, timeout=10, check=False).returncode == 0


def url(running: Running) -> str:
    """Return the URL of the server's database."""
    return f"postgresql://{USER}@{running.address}/{DATABASE}"
