"""The project's own files agree with each other: versions, locks, licence."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax.numpy as jnp
import pytest

import functional_dl
from functional_dl import arguments, explain
from functional_dl.check import precise
from functional_dl.training import checkpoint

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


EXTRAS = PROJECT["optional-dependencies"]


def requirements(*extras: str) -> set[str]:
    """What extras bring, those that they name included."""
    found = set()
    for requirement in [r for extra in extras for r in EXTRAS[extra]]:
        inner = re.fullmatch(r"functional_dl\[([\w,]+)\]", requirement)
        found |= requirements(*inner[1].split(",")) if inner else {requirement}
    return found


def test_lock_holds_everything_that_the_two_commands_need():
    wanted = [*PROJECT["dependencies"], *requirements("experiments", "test")]
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
    for requirement in [*PROJECT["dependencies"], *requirements("experiments", "test", "dev")]:
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+", requirement)


IMPORTED_AS = {"orbax-checkpoint": "orbax"}
USES = {  # an optional package -> what needs it
    "networkx": lambda: explain.explain(jnp.sin, 1.0, check=False).graph,
    "orbax-checkpoint": lambda: checkpoint._orbax(),
    "mpmath": lambda: precise.partial_derivative(lambda mp, x: mp.sin(x), (1.0,)),
}


@pytest.mark.parametrize("package", USES)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, IMPORTED_AS.get(package, package), None)
    with pytest.raises(ImportError, match=f"needs {package}, which is not installed") as caught:
        USES[package]()
    extra = re.search(r"pip install 'functional_dl\[(\w+)\]'", str(caught.value))[1]
    assert any(requirement.startswith(package) for requirement in requirements(extra))
    assert any(requirement.startswith(package) for requirement in requirements("all"))


def test_the_command_line_names_its_extra():
    code = "import sys; sys.modules['tyro'] = None; import functional_dl.__main__"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == arguments.missing("tyro", "the command line", "cli")


def test_no_optional_package_is_there_for_nothing():
    """Each is imported by a file of the package or of the experiments, or is a tool of the tests."""
    tools = {"pytest", "pytest-xdist", "playwright", "hypothesis", "scipy", "beartype", "clarabel"}
    tools |= {"equinox", "lineax", "optimistix", "quadax"}  # whose programs are differentiated
    tools |= {"grain"}  # whose datasets training.fit takes, and their iterators' states, as any other's
    text = "\n".join(
        path.read_text() for room in ("functional_dl", "experiments") for path in (ROOT / room).rglob("*.py")
    )
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements("experiments", "test")} - tools
    modules = {"scikit-learn": "sklearn", "orbax-checkpoint": "orbax", "markdown-it-py": "markdown_it"}
    imported = {name: modules.get(name, name) for name in names}
    unused = [n for n, m in imported.items() if not re.search(rf'(import|from) {m}\b|import_module\("{m}"\)', text)]
    assert not unused


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
