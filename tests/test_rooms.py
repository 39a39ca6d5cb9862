"""The public surface: `__all__` of every room is what dir() and completion show, and what others use of it is in it."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import functional_dl

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "functional_dl"


@cache
def rooms() -> dict[str, ModuleType]:
    """Every package, every file beside the root's, and every module that a room's `__all__` names."""
    found = {PACKAGE: functional_dl}
    for info in pkgutil.walk_packages(functional_dl.__path__, f"{PACKAGE}."):
        if (info.ispkg or info.name.count(".") == 1) and not info.name.endswith("__main__"):
            found[info.name] = importlib.import_module(info.name)
    waiting = list(found.values())
    while waiting:
        room = waiting.pop()
        for name in room.__all__ if room.__name__ != f"{PACKAGE}.reverse.rules" else ():  # its files are no rooms
            value = getattr(room, name)
            if inspect.ismodule(value) and value.__name__ not in found:
                found[value.__name__] = value
                waiting.append(value)
    return found


def test_rooms_are_found():
    assert {f"{PACKAGE}.{name}" for name in ("tree", "reverse", "models", "optimality.svm")} <= rooms().keys()


def test_every_name_exists_once():
    for name, room in rooms().items():
        assert len(set(room.__all__)) == len(room.__all__), name
        missing = [public for public in room.__all__ if not hasattr(room, public)]
        assert not missing, f"{name}: {missing}"


def test_dir_shows_the_public_names_and_nothing_else():
    for name, room in rooms().items():
        assert dir(room) == sorted(room.__all__), name


def test_every_name_has_a_docstring_or_is_data():
    bare = []
    for name, room in rooms().items():
        for public in room.__all__:
            value = getattr(room, public)
            if not getattr(value, "__module__", getattr(value, "__name__", "")).startswith(PACKAGE):
                continue  # data, or an alias of another library's class
            # a dataclass or a named tuple without a docstring has its signature for one
            generated = inspect.isclass(value) and str(value.__doc__).startswith(f"{public}(")
            if not value.__doc__ or generated:
                bare.append(f"{name}.{public}")
    assert not bare


# ---- what others use of a room ----------------------------------------------------------------------------------


def uses(source: str) -> Iterator[tuple[str, str]]:
    """(room, name) for each name that a program imports from a room, or reads from a room that it imported."""
    tree = ast.parse(source)
    known: dict[str, str] = {}  # a variable -> the room that it is
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in rooms() and not node.level:
            for alias in node.names:
                yield node.module, alias.name
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    known[alias.asname or PACKAGE] = alias.name if alias.asname else PACKAGE
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}  # a parameter may have a room's name
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or (room := path(node.value, known)) not in rooms():
            continue
        if not {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)} & bound:
            yield room, node.attr


def path(node: ast.expr, known: dict[str, str]) -> str:
    """optimality.svm -> "functional_dl.optimality.svm", where `optimality` is known; else ""."""
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.Attribute):
        above = path(node.value, known)
        return above and f"{above}.{node.attr}"
    return ""


def unlisted(source: str) -> set[str]:
    """The names a program uses that are not in their room's `__all__`; files may be imported by their path."""
    return {
        f"{room}.{name}"
        for room, name in uses(source)
        if name not in rooms()[room].__all__
        and not (name.startswith("__") and name.endswith("__"))
        and not inspect.ismodule(getattr(rooms()[room], name, None))
        and not (hasattr(rooms()[room], "__path__") and importlib.util.find_spec(f"{room}.{name}"))
    }


def test_an_unlisted_name_is_found():
    assert unlisted("from functional_dl.tree import jax, add") == set()  # a module
    assert unlisted("from functional_dl.tree import Array") == {"functional_dl.tree.Array"}
    assert unlisted("from functional_dl import tree as t\nt.Array(3)") == {"functional_dl.tree.Array"}
    assert unlisted("import functional_dl\nfunctional_dl.tree.keystr") == {"functional_dl.tree.keystr"}
    assert unlisted("from functional_dl import optimality\noptimality.svm.fields") == {
        "functional_dl.optimality.svm.fields"
    }
    assert unlisted("from functional_dl import check\ndef f(check): return check.nothing") == set()


def test_names_that_tests_experiments_and_readme_use_are_public():
    programs = {path: path.read_text() for folder in ("tests", "experiments") for path in (ROOT / folder).rglob("*.py")}
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    programs[ROOT / "README.md"] = "\n".join(blocks)
    assert blocks
    faults = {str(path.relative_to(ROOT)): names for path, text in programs.items() if (names := unlisted(text))}
    assert not faults
