"""What may import what: the map as functions over syntax trees.

Every function takes source text and returns the faults it finds, so that test_architecture.py can hand it
the repository's own files (no fault allowed) and planted violations (each must be found).
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "functional_dl"
IMPORTERS = {"import_module", "__import__"}

# Room -> the rooms it may import, besides itself.  A room that is not here may not exist.
BASE = {"aliases", "arguments", "blocks", "estimates", "jaxprs", "kinks", "pages", "precision", "sharding",
        "tree"}  # fmt: skip
FORMULAS = {"activations", "losses", "penalties"}
MAY_IMPORT: dict[str, set[str]] = {
    "aliases": set(),
    "arguments": {"aliases"},
    "estimates": {"aliases", "arguments"},
    "jaxprs": {"aliases", "arguments", "sharding"},
    "blocks": {"aliases", "sharding"},
    "pages": set(),
    "precision": set(),
    "sharding": set(),
    "kinks": {"aliases", "arguments"},
    "tree": {"aliases", "arguments"},
    "activations": BASE,
    "losses": BASE | {"activations"},
    "penalties": BASE,
    "initializers": BASE,
    "layers": BASE | FORMULAS | {"initializers"},
    "models": BASE | FORMULAS | {"initializers", "layers"},
    "backprop": BASE | FORMULAS | {"layers", "models"},
    "reverse": BASE,
    "check": BASE,
    "derivations": BASE | FORMULAS | {"layers", "backprop", "reverse", "check"},
    "explain": BASE | {"reverse", "check"},
    "calculus": BASE,
    "integrals": BASE | {"calculus"},
    "optimality": BASE | {"calculus", "penalties"},
    "training": BASE | FORMULAS | {"layers", "models"},
}
COMMAND_LINE = f"{PACKAGE}.__main__"
READER = f"{PACKAGE}.jaxprs"
EQUATIONS = "eq" + "ns"  # in two parts, for this file is looked at too

# Inside reverse: {latex, values, layout, program, costs, residuals, trace, rule} <- sweep <- rules <- api.  Other files
# are of the last tier.
REVERSE_TIERS: dict[str, int] = dict.fromkeys(
    ("latex", "values", "layout", "program", "costs", "residuals", "trace", "rule"), 0
)
REVERSE_TIERS |= {"sweep": 1, "rules": 2}
REVERSE_LAST_TIER = 3


@dataclass(frozen=True)
class Fault:
    """A line that breaks a rule, and which rule."""

    module: str
    line: int
    message: str

    def __str__(self):
        return f"{self.module}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Import:
    """One imported name: `from a import b as c` has target a.b, bound name c."""

    target: str
    line: int
    bound: str | None


def modules(root: Path, top: str) -> dict[str, Path]:
    """Dotted name -> file, for every Python file under root/top.  A package stands for its __init__."""
    found = {}
    for path in sorted((root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes(source: str) -> list[ast.AST]:
    """Every node of a file: to walk over a tree takes longer than to parse the file, so it is done once."""
    return list(ast.walk(ast.parse(source)))


@functools.cache
def imports_of(source: str, module: str, is_package: bool = False) -> tuple[Import, ...]:
    """Every import of a file, found once for all that ask."""
    return tuple(imports(nodes(source), module, is_package))


def imports(nodes: Iterable[ast.AST], module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import of a module, wherever it stands: top level, functions, importlib.import_module("...")."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, name.asname or name.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                source = ".".join([*package, source] if source else package)
            for name in node.names:
                yield Import(f"{source}.{name.name}", node.lineno, name.asname or name.name)
        elif isinstance(node, ast.Call) and called(node) in IMPORTERS and (name := first_string(node)):
            yield Import(name, node.lineno, None)


def room(module: str) -> str | None:
    """functional_dl.reverse.rules.linear -> reverse; None outside of the package and for its root."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def arrow_faults(source: str, module: str, is_package: bool = False) -> list[Fault]:
    """Imports that go against the map."""
    faults = []
    here = room(module)
    if here is not None and here not in MAY_IMPORT and module != COMMAND_LINE:
        faults.append(Fault(module, 1, f"the map has no room {here!r}"))
    for found in imports_of(source, module, is_package):
        top = found.target.split(".")[0]
        message = None
        if top == "tests" or (top == "experiments" and module.split(".")[0] == PACKAGE):
            message = f"nothing in {module.split('.')[0]} may import {top}"
        elif top == PACKAGE and here is not None and module != COMMAND_LINE:
            message = _room_fault(here, found) or _reverse_fault(module, found)
        if message:
            faults.append(Fault(module, found.line, message))
    return faults


def _room_fault(here: str, found: Import) -> str | None:
    if found.target == f"{PACKAGE}.__version__":
        return None
    there = room(found.target)
    if there in (None, "*") or found.bound == PACKAGE:
        return f"import rooms by name: `from {PACKAGE} import room`"
    if there == here or there in MAY_IMPORT.get(here, set()):
        return None
    return f"{here} may not import {there}"


def _reverse_fault(module: str, found: Import) -> str | None:
    prefix = f"{PACKAGE}.reverse."
    if not (module.startswith(prefix) and found.target.startswith(prefix[:-1])):
        return None
    here, there = (name.removeprefix(prefix).split(".")[0] for name in (module, found.target))
    if found.target.rstrip("*").rstrip(".") == prefix[:-1]:
        return "inside reverse, import its files by name"
    if _tier(there) > _tier(here):
        return f"inside reverse, {here} may not import {there}"
    return None


def _tier(name: str) -> int:
    return REVERSE_TIERS.get(name, REVERSE_LAST_TIER)


def called(node: ast.Call) -> str | None:
    """The last part of a called name: importlib.import_module(...) -> import_module."""
    return getattr(node.func, "attr", getattr(node.func, "id", None))


def first_string(node: ast.Call) -> str | None:
    """The first argument of a call, where it is a string written out."""
    first = node.args[0] if node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def import_graph(sources: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """module -> the modules of the same set that it imports; sources: name -> (text, is a package)."""
    graph = {}
    for module, (text, is_package) in sources.items():
        targets = set()
        for found in imports_of(text, module, is_package):
            # `from a import b` imports module a.b where there is one, and otherwise a.
            target = found.target if found.target in sources else found.target.rpartition(".")[0]
            if target in sources and target != module:
                targets.add(target)
        graph[module] = targets
    return graph


def reader_faults(source: str, module: str) -> list[Fault]:
    """Places that read a jaxpr's list of equations by themselves, by its name as an attribute or in a string."""

    def reads(node):
        text = getattr(node, "value", None)
        return getattr(node, "attr", None) == EQUATIONS or (isinstance(text, str) and EQUATIONS in text)

    if module == READER:
        return []
    return [
        Fault(module, node.lineno, f"only {READER} reads a jaxpr's equations") for node in nodes(source) if reads(node)
    ]


def init_faults(source: str) -> list[Fault]:
    """Lines of the package's __init__ that are more than a docstring, imports, __all__, __dir__ and __version__."""
    faults = []
    for position, node in enumerate(ast.parse(source).body):
        docstring = position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        constant = (
            isinstance(node, ast.Assign)
            and [getattr(target, "id", None) for target in node.targets] in (["__all__"], ["__version__"])
            and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
        )
        shown = isinstance(node, ast.FunctionDef) and node.name == "__dir__" and len(node.body) == 1
        if not (docstring or constant or shown or isinstance(node, ast.Import | ast.ImportFrom)):
            faults.append(Fault(PACKAGE, node.lineno, "only re-exports belong here"))
    return faults
