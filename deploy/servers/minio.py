"""MinIO, an S3-compatible store, built by Go once per machine."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from deploy.servers.cache import ServerUnavailable, made_once, run_with_progress, say
from deploy.servers.processes import Running, free_port, recorded, start

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
ACCESS_KEY = "headgate"
SECRET_KEY = "headgate-secret"  # noqa: S105 - of throw-away servers on 127.0.0.1
HOW = "set HEADGATE_TEST_S3=http://host:port, or install Go, or start Docker"


def prepare() -> Path:
    """Return the minio program, built the first time (some minutes, 150 MB)."""
    return made_once(f"minio-{VERSION}", "MinIO", _build) / "minio"


def _build(folder: Path) -> None:
    if not shutil.which("go"):
        raise ServerUnavailable(f"MinIO is built by Go, and there is no go: {HOW}")
    argv = ["go", "install", f"github.com/minio/minio@{VERSION}"]
    env = {"GOBIN": str(folder), "CGO_ENABLED": "0"}
    run_with_progress(argv, "building MinIO with Go", log=folder / "build.log", timeout_s=1500, env=env)


def run(home: Path, port: int = 0) -> Running:
    """Start a store whose objects and log live in `home`, or return the one that already runs there.

    Port 0 takes a free one. The objects of an earlier store in `home` are kept.
    """
    home = home.resolve()
    if (running := recorded(home)) is not None:
        return running
    program = prepare()
    (home / "objects").mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port or free_port()}"
    say(f"starting MinIO on {address}")
    return start(
        [str(program), "server", "--quiet", "--address", address, str(home / "objects")],
        home=home,
        address=address,
        ready=lambda: answers(address),
        env={
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
    )


def answers(address: str) -> bool:
    """Tell whether the store says that it is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/minio/health/ready", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
