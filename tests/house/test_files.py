"""What is in the repository works on any machine and says where nothing comes from."""

from __future__ import annotations

import re
import tomllib

from tests.house.tree import ROOT, own_files, product_modules

HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "yarn" + "pkg.com",
    "maven" + ".org",
    "maven" + ".apache.org/maven2",
    "proxy" + ".golang.org",
    "sum" + ".golang.org",
    "artifact" + "ory",
]
MACHINE_PATHS = re.compile(r"(?<![\w.}/$-])/(?:work|root|home|Users)/\w")
VAGUE_NAMES = {
    *("util", "utils", "helper", "helpers", "common", "core"),
    *("base", "misc", "data", "info", "impl"),
}


def readable_files() -> dict[str, str]:
    """Return every text file of the repository by its path."""
    texts = {}
    for path in own_files():
        content = path.read_bytes()
        if b"\0" not in content:
            texts[path.relative_to(ROOT).as_posix()] = content.decode(errors="replace")
    return texts


def test_no_file_names_a_registry() -> None:
    found = {name: host for name, text in readable_files().items() for host in HOSTS if host in text}
    assert found == {}


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        name: match.group()
        for name, text in readable_files().items()
        if name != "Dockerfile" and (match := MACHINE_PATHS.search(text))
    }
    assert found == {}


def test_no_lock_file_with_addresses_is_kept() -> None:
    names = {path.name for path in own_files()}
    assert not names & {"package-lock.json", "yarn.lock", "poetry.lock", "uv.lock", "pip.conf", ".npmrc"}


def test_constraints_pin_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    odd = [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)]
    assert odd == []


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    pinned = {_normal(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {_normal(line) for line in wanted} <= pinned


def _normal(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def test_module_names_say_what_lives_there() -> None:
    vague = [path.relative_to(ROOT).as_posix() for path in product_modules() if path.stem in VAGUE_NAMES]
    assert vague == []


def test_the_image_is_built_from_every_folder_that_the_wheel_holds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    held = {
        name.partition("/")[0] for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert held - copied == set()
    assert held - let_in == set()
