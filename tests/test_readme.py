"""README tells the truth: its code prints what it shows, its commands are CI's, and the book's map is the tree."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
MAP = (ROOT / "experiments" / "book" / "map.md").read_text()


def blocks(language: str) -> list[str]:
    """The contents of README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_code_prints_what_is_shown():
    code, shown = "\n".join(blocks("python")), "".join(blocks("text"))  # a later block goes on from the one before
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


def test_code_has_twelve_lines():
    for code in blocks("python"):
        assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_ci_runs_the_test_command_as_written():
    experiments, tests = (block.strip() for block in blocks("sh"))
    assert experiments.endswith("python -m experiments")
    assert experiments.split(" -m experiments")[0] == tests.split(" -m pytest")[0]
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert tests in lines


def test_map_names_every_room_and_no_other():
    named = set(re.findall(r"^\| `(\w+/(?:\w+(?:\.py|/))?)`", MAP, re.MULTILINE))
    package = ROOT / "functional_dl"
    files = {f"functional_dl/{path.name}" for path in package.glob("*.py") if not path.name.startswith("__")}
    folders = {f"functional_dl/{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert named == files | folders | {"experiments/", "tests/"}


def test_it_is_read_in_a_minute():
    """A screen and a half: some 90 lines, of which 25 are the proof."""
    assert len(README.splitlines()) <= 95


def test_the_bibtex_entry_is_the_citation():
    cited = (ROOT / "CITATION.cff").read_text()
    (entry,) = blocks("bibtex")
    plain = entry.replace("\\_", "_")
    for field in ("title", "version"):
        wanted = re.search(rf'^{field}: "?([^"\n]+)"?$', cited, re.MULTILINE)[1]
        assert f"{{{wanted}}}" in plain, field


def test_versions_are_those_of_the_lock():
    stated = set(re.findall(r"JAX (\d[\d.]*\d)", README))
    locked = set(re.findall(r"^jax==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert stated == locked
