"""The tests that a change reaches: by import, by helpers, by place; and what differs from a commit."""

import shutil
import subprocess

import pytest
from affected import affected, changed_since, main

TREE = {
    "functional_dl/__init__.py": "from functional_dl import deep, tree",
    "functional_dl/tree.py": "",
    "functional_dl/deep/__init__.py": "from functional_dl import tree",
    "functional_dl/deep/found_by_name.py": "",
    "functional_dl/apart.py": "def late():\n    from functional_dl.deep import found_by_name",
    "experiments/one.py": "from functional_dl import apart",
    "tests/conftest.py": "",
    "tests/helper.py": "",
    "tests/second.py": "import helper",
    "tests/test_tree.py": "",  # mirrors a room and imports none
    "tests/test_readme.py": "",
    "tests/deep/conftest.py": "",
    "tests/deep/test_api.py": "import second",
    "tests/deep/other.py": "from tests.second import x",
    "tests/far/test_apart.py": "from functional_dl.apart import late",
    "tests/experiments/test_all.py": "",
}
ALWAYS = ["tests/test_readme.py"]
DEEP, FAR, OURS = "tests/deep/test_api.py", "tests/far/test_apart.py", "tests/experiments/test_all.py"


@pytest.fixture
def root(tmp_path):
    for path, text in TREE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        ([], []),
        (["README.md"], []),
        (["functional_dl/tree.py"], ["tests/test_tree.py", DEEP, FAR, OURS]),
        (["functional_dl/deep/found_by_name.py"], [DEEP, FAR, OURS]),
        (["functional_dl/deep/page.css"], [DEEP, FAR, OURS]),
        (["functional_dl/deep/deleted.py"], [DEEP, FAR, OURS]),
        (["functional_dl/apart.py"], [FAR, OURS]),
        (["experiments/one.py"], [OURS]),
        (["tests/helper.py"], [DEEP]),
        (["tests/deep/conftest.py"], [DEEP]),
        (["tests/far/numbers.txt"], [FAR]),
        (["tests/test_tree.py", "experiments/one.py"], ["tests/test_tree.py", OURS]),
    ],
    ids=str,
)
def test_what_a_change_reaches(root, changed, reached):
    assert affected(changed, root) == sorted(ALWAYS + reached)


@pytest.mark.parametrize("path", ["pyproject.toml", "tests/conftest.py", "functional_dl/__init__.py"])
def test_what_everything_needs_reaches_everything(root, path):
    assert affected([path, "README.md"], root) == ["tests"]


def test_this_repository():
    reached = affected(["functional_dl/losses/table.py"])
    assert {"tests/test_losses.py", "tests/test_backprop.py", "tests/derivations/test_families.py"} <= set(reached)
    assert not [path for path in reached if path.startswith(("tests/integrals/", "tests/optimality/"))]
    assert "tests/reverse/test_rules.py" in affected(["functional_dl/reverse/rules/scan.py"])
    assert "tests/reverse/test_rules.py" in affected(["tests/oracles.py"])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_what_differs_from_a_commit(root, capsys):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *words], cwd=root, check=True)

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    assert changed_since("HEAD", root) == set()
    (root / "functional_dl/tree.py").write_text("x = 1")
    (root / "tests/second.py").unlink()
    (root / "tests/new.py").write_text("")
    assert changed_since("HEAD", root) == {"functional_dl/tree.py", "tests/second.py", "tests/new.py"}
    with pytest.raises(SystemExit, match="no-such-ref"):
        changed_since("no-such-ref", root)
    capsys.readouterr()


def test_command_lists(capsys, monkeypatch):
    monkeypatch.setattr("affected.changed_since", lambda ref: {"tests/formulas.py"})
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 files differ from HEAD")
    assert "tests/test_losses.py" in printed
    assert "tests/reverse" not in printed
