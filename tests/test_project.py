"""The project's own files agree with each other: versions, locks, licence."""

import re
import tomllib
from pathlib import Path

import pytest

import functional_dl

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ["requirements.lock", ".ci/lint.lock"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, list[str]]:
    """Distribution -> its entries (a pin, its marker, its hashes): one per range of Python versions."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip()):
        name = re.match(r"([\w.-]+)==[\w.]+", entry)
        assert name, f"{lock}: not a pin: {entry.splitlines()[0]}"
        found.setdefault(canonical(name[1]), []).append(entry)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_hashes_and_no_urls(lock):
    assert "://" not in (ROOT / lock).read_text()
    for entries in pins(lock).values():
        for entry in entries:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]


def test_lock_holds_everything_that_the_two_commands_need():
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["experiments"], *extras["test"]]
    locked = pins("requirements.lock")
    for requirement in wanted:
        name, bound = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups()
        for entry in locked[canonical(name)]:
            version = re.match(r"[\w.-]+==([\d.]+)", entry)[1]
            assert numbers(version) >= numbers(bound), f"{requirement}: the lock has {version}"


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.strip(".").split(".")]


def test_locks_agree_where_both_pin():
    ours, lint = pins("requirements.lock"), pins(".ci/lint.lock")
    for name in ours.keys() & lint.keys():
        assert ours[name][0].split()[0] == lint[name][0].split()[0]


def test_dependencies_are_lower_bounds():
    extras = PROJECT["optional-dependencies"]
    for requirement in [*PROJECT["dependencies"], *extras["experiments"], *extras["test"], *extras["dev"]]:
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+", requirement)


def test_version_is_stated_once_and_repeated_right():
    assert "version" in PROJECT["dynamic"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert cited == functional_dl.__version__
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert not released or released[0] == functional_dl.__version__


def test_package_is_typed_and_licensed():
    assert (ROOT / "functional_dl" / "py.typed").exists()
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert PROJECT["license"] == "Apache-2.0"
