"""Apache Kafka 4.3, one node in KRaft mode, from jars that Maven copies; needs Java 17."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import socket
import string
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.servers.cache import ServerUnavailable, made_once, run_with_progress, say
from deploy.servers.processes import Running, free_port, recorded, start

FILES = Path(__file__).parent.parent / "kafka"
"""pom.xml and the template of server.properties."""
HOW = "set HEADGATE_TEST_KAFKA=host:port, or install Java 17 and Maven, or start Docker"


def prepare() -> Path:
    """Return the folder of Kafka's jars, copied by Maven the first time (44 MB); refuses without Java."""
    java()
    pom = (FILES / "pom.xml").read_bytes()
    name = f"kafka-{hashlib.sha256(pom).hexdigest()[:12]}"
    return made_once(name, "Kafka's jars", _copy_jars)


def _copy_jars(folder: Path) -> None:
    if not shutil.which("mvn"):
        raise ServerUnavailable(f"Kafka's jars need Maven, and there is no mvn: {HOW}")
    argv = [
        "mvn",
        "-B",
        "-f",
        str(FILES / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={folder}",
    ]
    run_with_progress(argv, "copying Kafka's jars with Maven", log=folder / "maven.log", timeout_s=900)


def java() -> str:
    """Return the java program, 17 or newer; ServerUnavailable otherwise."""
    program = shutil.which("java")
    if not program:
        raise ServerUnavailable(f"Kafka needs Java 17, and there is no java: {HOW}")
    shown = subprocess.run(
        [program, "-version"], capture_output=True, text=True, timeout=30, check=False
    ).stderr
    found = re.search(r'version "(\d+)', shown)
    if not found or int(found.group(1)) < 17:
        raise ServerUnavailable(f"Kafka needs Java 17, this one is {shown.splitlines()[:1]}: {HOW}")
    return program


def run(
    home: Path,
    port: int = 0,
    *,
    options: Mapping[str, str] | None = None,
    users: Mapping[str, str] | None = None,
) -> Running:
    """Start a broker whose data, settings and log live in `home`, or return the one that already runs there.

    Port 0 takes a free one. The data of an earlier broker in `home` are kept. `options` are added to its
    settings and win; `users` (name: password) are made for SCRAM when its data are new.
    """
    home = home.resolve()
    if (running := recorded(home)) is not None:
        return running
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    write_settings(home, port, free_port(), options or {})
    format_data(home, cluster_id(), ["--standalone", *_scram(users or {})])
    return start_node(home, port)


def write_settings(home: Path, port: int, controller_port: int, options: Mapping[str, str]) -> None:
    """Write a node's server.properties: the template's, with `options` in place of what it says."""
    template = string.Template((FILES / "server.properties").read_text())
    said = template.substitute(port=port, controller_port=controller_port, data=home / "data")
    kept = [line for line in said.splitlines() if line.partition("=")[0] not in options]
    lines = [*kept, *(f"{name}={value}" for name, value in options.items() if value)]
    settings = home / "server.properties"
    settings.touch(mode=0o600)
    settings.write_text("\n".join(lines) + "\n")


def _scram(users: Mapping[str, str]) -> list[str]:
    pairs = (("--add-scram", f"SCRAM-SHA-512=[name={name},password={users[name]}]") for name in users)
    return [argument for pair in pairs for argument in pair]


def cluster_id() -> str:
    """Return a new id of a cluster."""
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def format_data(home: Path, cluster: str, arguments: Sequence[str]) -> None:
    """Format a node's data, unless they are there."""
    if (home / "data" / "meta.properties").exists():
        return
    argv = [java(), "-cp", f"{prepare()}/*", "kafka.tools.StorageTool", "format", "-t", cluster]
    settings = str(home / "server.properties")
    done = subprocess.run(
        [*argv, "-c", settings, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise ServerUnavailable(f"Kafka could not format {home}: {done.stdout}{done.stderr}")


def start_node(home: Path, port: int, heap: str = "1g") -> Running:
    """Start the node whose settings and data are in `home`; return once it answers on `port`."""
    say(f"starting Kafka on 127.0.0.1:{port}")
    classpath, settings = f"{prepare()}/*", str(home / "server.properties")
    return start(
        [java(), f"-Xmx{heap}", "-Dlog4j2.level=WARN", "-cp", classpath, "kafka.Kafka", settings],
        home=home,
        address=f"127.0.0.1:{port}",
        ready=lambda: answers(port),
        timeout_s=120,
    )


def answers(port: int) -> bool:
    """Tell whether a broker answers an ApiVersions request; an open port alone is not yet a broker."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(4)) == 4
    except OSError:
        return False
