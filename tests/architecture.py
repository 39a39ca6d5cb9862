"""What may import what, and who may differentiate: the map as functions over syntax trees.

Every function takes source text and returns the faults it finds, so that test_architecture.py can hand it
the repository's own files (no fault allowed) and planted violations (each must be found).
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "functional_dl"
IMPORTERS = {"import_module", "__import__"}

# Room -> the rooms it may import, besides itself.  A room that is not here may not exist.
BASE = {"aliases", "arguments", "kinks", "tree"}
FORMULAS = {"activations", "losses", "penalties"}
MAY_IMPORT: dict[str, set[str]] = {
    "aliases": set(),
    "arguments": {"aliases"},
    "kinks": {"aliases", "arguments"},
    "tree": {"aliases", "arguments"},
    "activations": BASE,
    "losses": BASE | {"activations"},
    "penalties": BASE,
    "layers": BASE | FORMULAS,
    "models": BASE | FORMULAS | {"layers"},
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
# One file of check may read the sweep, to find the equation where a NaN was born.
EXCEPTIONS: dict[str, set[str]] = {f"{PACKAGE}.check.find_nan": {"reverse"}}
COMMAND_LINE = f"{PACKAGE}.__main__"

# Inside reverse: {trace, rule} <- sweep <- rules <- api.  A file named nowhere belongs to the last tier.
REVERSE_TIERS = {"trace": 0, "rule": 0, "sweep": 1, "rules": 2}
REVERSE_LAST_TIER = 3

# Rooms whose derivatives are written by hand, and everything that differentiates for you, by public name.
HAND_DERIVED = {"reverse", "derivations", "backprop", *BASE, *FORMULAS}
DIFFERENTIATION = {
    *(f"jax.{name}" for name in ["grad", "value_and_grad", "vjp", "jvp", "linearize", "linear_transpose"]),
    *(f"jax.{name}" for name in ["jacrev", "jacfwd", "jacobian", "hessian", "fwd_and_bwd", "ad"]),
    "jax.interpreters.ad",
    "jax.custom_derivatives.linear_call",
    "jax.extend.core.eval_jaxpr_transpose",
    *(f"jax.experimental.{name}" for name in ["jet", "sparse", "hijax", "fused", "roofline", "ode"]),
    "jax.ad_checkpoint.print_saved_residuals",
    "jax.scipy.optimize",
    "jax.test_util",
}
LEADS_TO_DIFFERENTIATION = {
    name.rsplit(".", depth)[0] for name in DIFFERENTIATION for depth in range(1, name.count(".") + 1)
}
# Other libraries may hide a derivative, so a hand-derived room may use these and the standard library alone.
HAND_DERIVED_LIBRARIES = {"jax", "numpy", "jaxtyping", "ml_dtypes", PACKAGE}


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


def imports(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import of a module, wherever it stands: top level, functions, importlib.import_module("...")."""
    for node in ast.walk(tree):
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
        elif isinstance(node, ast.Call) and _called(node) in IMPORTERS and (name := _first_string(node)):
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
    for found in imports(ast.parse(source), module, is_package):
        top = found.target.split(".")[0]
        message = None
        if top == "tests" or (top == "experiments" and module.split(".")[0] == PACKAGE):
            message = f"nothing in {module.split('.')[0]} may import {top}"
        elif top == PACKAGE and here is not None and module != COMMAND_LINE:
            message = _room_fault(module, here, found) or _reverse_fault(module, found)
        if message:
            faults.append(Fault(module, found.line, message))
    return faults


def _room_fault(module: str, here: str, found: Import) -> str | None:
    if found.target == f"{PACKAGE}.__version__":
        return None
    there = room(found.target)
    if there in (None, "*") or found.bound == PACKAGE:
        return f"import rooms by name: `from {PACKAGE} import room`"
    if there == here or there in MAY_IMPORT.get(here, set()) | EXCEPTIONS.get(module, set()):
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


def private_faults(source: str, module: str) -> list[Fault]:
    """Uses of jax._src or of any other name of JAX that starts with an underscore."""
    tree = ast.parse(source)
    return [
        Fault(module, line, f"{name} is private to JAX")
        for name, line, _ in _jax_names(tree, module)
        if any(re.match(r"_(?!_)", part) for part in name.split("."))
    ]


def differentiation_faults(source: str, module: str) -> list[Fault]:
    """Uses of JAX's differentiation, and the ways in which a use could hide, in a hand-derived room."""
    tree = ast.parse(source)
    faults = []
    for name, line, is_value in _jax_names(tree, module):
        if any(name == banned or name.startswith(banned + ".") for banned in DIFFERENTIATION):
            faults.append(Fault(module, line, f"{name} differentiates; here derivatives are written by hand"))
        elif name.endswith(".*"):
            faults.append(Fault(module, line, f"import of {name} hides which names are used"))
        elif re.search(r"\.__(?!version)", name) or (is_value and name in LEADS_TO_DIFFERENTIATION):
            faults.append(Fault(module, line, f"{name} used as a value hides which names are used"))
    for found in imports(tree, module):
        top = found.target.split(".")[0]
        if top not in HAND_DERIVED_LIBRARIES and top not in sys.stdlib_module_names:
            faults.append(Fault(module, found.line, f"{top} may differentiate: use JAX's operations"))
        elif top != "jax" and found.target.split(".")[-1] in {"jax", "*"}:
            faults.append(Fault(module, found.line, f"{found.target} may bring in jax: import it as itself"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in {"eval", "exec", "attrgetter", "methodcaller"}:
            faults.append(Fault(module, node.lineno, f"{_called(node)} hides which names are used"))
        elif isinstance(node, ast.Call) and _called(node) in IMPORTERS and not _names_its_target(node):
            faults.append(Fault(module, node.lineno, "import of a computed name"))
        elif isinstance(node, ast.Attribute) and node.attr == "jax":
            faults.append(
                Fault(module, node.lineno, "jax reached through another module: import it as itself")
            )
        elif isinstance(node, ast.Attribute) and (_dotted(node) or "").endswith("sys.modules"):
            faults.append(Fault(module, node.lineno, "sys.modules hides which names are used"))
    return faults


def _jax_names(tree: ast.AST, module: str) -> Iterator[tuple[str, int, bool]]:
    """(full dotted name, line, whether it is used as a value) of everything reached from jax in a file.

    Names are followed through `import jax as j`, `from jax import numpy`, attributes and getattr(j, "name").
    """
    bound: dict[str, set[str]] = {}
    for found in imports(tree, module):
        if found.target.split(".")[0] != "jax":
            continue
        yield found.target, found.line, False
        if found.bound:
            # `import jax.numpy` binds jax; `... as jnp` and `from jax import numpy` bind the target.
            whole = found.bound == "jax" and found.target.startswith("jax.")
            bound.setdefault(found.bound, set()).add("jax" if whole else found.target)

    def resolve(node) -> set[str]:
        if isinstance(node, ast.Name):
            return bound.get(node.id, set())
        if isinstance(node, ast.Attribute):
            return {f"{base}.{node.attr}" for base in resolve(node.value)}
        if isinstance(node, ast.Call) and _called(node) == "getattr" and len(node.args) >= 2:
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else "*"
            return {f"{base}.{name}" for base in resolve(node.args[0])}
        if isinstance(node, ast.Call) and _called(node) in IMPORTERS:
            name = _first_string(node) or ""
            return {name} if name.split(".")[0] == "jax" else set()
        return set()

    inner = set()  # nodes that are only the beginning of a longer name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
        elif isinstance(node, ast.Call) and _called(node) in {"getattr", "hasattr"} and node.args:
            inner.add(id(node.args[0]))
    for node in ast.walk(tree):
        for name in resolve(node):
            if name != "jax" or id(node) not in inner:
                yield name, node.lineno, id(node) not in inner


def _called(node: ast.Call) -> str | None:
    """The last part of a called name: importlib.import_module(...) -> import_module."""
    return getattr(node.func, "attr", getattr(node.func, "id", None))


def _first_string(node: ast.Call) -> str | None:
    """The first argument of a call, where it is a string written out."""
    first = node.args[0] if node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _names_its_target(node: ast.Call) -> bool:
    """Whether the imported module is written out, or lies in the importing package: f"{__name__}.{...}"."""
    match node.args[:1]:
        case [
            ast.JoinedStr(
                values=[ast.FormattedValue(value=ast.Name(id="__name__")), ast.Constant(value=dot), *_]
            )
        ]:
            return str(dot).startswith(".")
    return _first_string(node) is not None


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else None
    return None


def import_graph(sources: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """module -> the modules of the same set that it imports; sources: name -> (text, is a package)."""
    graph = {}
    for module, (text, is_package) in sources.items():
        targets = set()
        for found in imports(ast.parse(text), module, is_package):
            # `from a import b` imports module a.b where there is one, and otherwise a.
            target = found.target if found.target in sources else found.target.rpartition(".")[0]
            if target in sources and target != module:
                targets.add(target)
        graph[module] = targets
    return graph


def init_faults(source: str) -> list[Fault]:
    """Lines of the package's __init__ that are more than a docstring, imports, __all__ and __version__."""
    faults = []
    for position, node in enumerate(ast.parse(source).body):
        docstring = position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        constant = (
            isinstance(node, ast.Assign)
            and [getattr(target, "id", None) for target in node.targets] in (["__all__"], ["__version__"])
            and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
        )
        if not (docstring or constant or isinstance(node, ast.Import | ast.ImportFrom)):
            faults.append(Fault(PACKAGE, node.lineno, "only re-exports belong here"))
    return faults
