"""Who may differentiate: the ban on JAX's differentiation, and on its private names, over syntax trees.

Every function takes source text and returns the faults it finds.  A derivative derived by hand is worth nothing
if the code beside the derivation asks JAX for it, so each way to reach one by its public name is looked for.
"""

import ast
import re
import sys
from collections.abc import Iterator

from architecture import BASE, FORMULAS, IMPORTERS, PACKAGE, Fault, called, first_string, imports, nodes

# Rooms whose derivatives are written by hand, and everything that differentiates for you, by public name.
HAND_DERIVED = {
    *(BASE - {"pages"}),
    *FORMULAS,
    "initializers",
    "layers",
    "models",
    "backprop",
    "reverse",
    "derivations",
}
DIFFERENTIATION = {
    *(f"jax.{name}" for name in ["grad", "value_and_grad", "vjp", "jvp", "linearize", "linear_transpose"]),
    *(f"jax.{name}" for name in ["jacrev", "jacfwd", "jacobian", "hessian", "fwd_and_bwd", "ad"]),
    "jax.interpreters.ad",
    "jax.extend.core.eval_jaxpr_transpose",
    *(f"jax.experimental.{name}" for name in ["jet", "hijax", "fused", "roofline", "ode"]),
    *(f"jax.experimental.sparse.{name}" for name in ["ad", "grad", "value_and_grad", "jacfwd", "jacrev", "jacobian"]),
    "jax.ad_checkpoint.print_saved_residuals",
    "jax.scipy.optimize",
    "jax.test_util",
}
# Of jax.ad these say where a cotangent shall go, and differentiate nothing.
MARKERS = {f"jax.ad.{name}" for name in ["DidntWant", "DontWant", "GradRef", "GradValue"]}
# The one file that looks up the derivative that a user or another library registered for a primitive of its own, and
# these names alone; that it refuses JAX's own primitives is tested in reverse/test_foreign.py.
READS_REGISTRATIONS = f"{PACKAGE}.reverse.rules.foreign"
REGISTRATIONS = {f"jax.interpreters.ad.{name}" for name in ["primitive_jvps", "primitive_transposes"]}
READ = {*REGISTRATIONS, *(f"jax.interpreters.ad.{name}" for name in ["UndefinedPrimal", "Zero"])}
LEADS_TO_DIFFERENTIATION = {
    name.rsplit(".", depth)[0] for name in DIFFERENTIATION for depth in range(1, name.count(".") + 1)
}
# Other libraries may hide a derivative, so a hand-derived room may use these and the standard library alone.
HAND_DERIVED_LIBRARIES = {"jax", "numpy", "jaxtyping", "ml_dtypes", PACKAGE}


def private_faults(source: str, module: str) -> list[Fault]:
    """Uses of jax._src or of any other name of JAX that starts with an underscore."""
    every_node = nodes(source)
    return [
        Fault(module, line, f"{name} is private to JAX")
        for name, line, _ in _jax_names(every_node, module)
        if any(re.match(r"_(?!_)", part) for part in name.split("."))
    ]


def differentiation_faults(source: str, module: str) -> list[Fault]:
    """Uses of JAX's differentiation, and the ways in which a use could hide, in a hand-derived room."""
    every_node = nodes(source)
    faults = []
    for name, line, is_value in _jax_names(every_node, module):
        if name in MARKERS or (module == READS_REGISTRATIONS and name.removesuffix(".get") in READ):
            continue
        if any(name == banned or name.startswith(banned + ".") for banned in DIFFERENTIATION):
            faults.append(Fault(module, line, f"{name} differentiates; here derivatives are written by hand"))
        elif name.endswith(".*"):
            faults.append(Fault(module, line, f"import of {name} hides which names are used"))
        elif re.search(r"\.__(?!version)", name) or (is_value and name in LEADS_TO_DIFFERENTIATION):
            faults.append(Fault(module, line, f"{name} used as a value hides which names are used"))
    for found in imports(every_node, module):
        top = found.target.split(".")[0]
        if top not in HAND_DERIVED_LIBRARIES and top not in sys.stdlib_module_names:
            faults.append(Fault(module, found.line, f"{top} may differentiate: use JAX's operations"))
        elif top != "jax" and f"jax.interpreters.ad.{found.target.split('.')[-1]}" in REGISTRATIONS:
            faults.append(Fault(module, found.line, f"{found.target}: {READS_REGISTRATIONS} alone reads registrations"))
        elif top != "jax" and found.target.split(".")[-1] in {"jax", "*"}:
            faults.append(Fault(module, found.line, f"{found.target} may bring in jax: import it as itself"))
    for node in every_node:
        if isinstance(node, ast.Call) and called(node) in {"eval", "exec", "attrgetter", "methodcaller"}:
            faults.append(Fault(module, node.lineno, f"{called(node)} hides which names are used"))
        elif isinstance(node, ast.Call) and called(node) in IMPORTERS and not _names_its_target(node):
            faults.append(Fault(module, node.lineno, "import of a computed name"))
        elif isinstance(node, ast.Attribute) and node.attr == "jax":
            faults.append(Fault(module, node.lineno, "jax reached through another module: import it as itself"))
        elif isinstance(node, ast.Attribute) and (_dotted(node) or "").endswith("sys.modules"):
            if module == READS_REGISTRATIONS:  # whose primitive it is
                continue
            faults.append(Fault(module, node.lineno, "sys.modules hides which names are used"))
    return faults


def _jax_names(nodes: list[ast.AST], module: str) -> Iterator[tuple[str, int, bool]]:
    """(full dotted name, line, whether it is used as a value) of everything reached from jax in a file.

    Names are followed through `import jax as j`, `from jax import numpy`, attributes and getattr(j, "name").
    """
    bound: dict[str, set[str]] = {}
    for found in imports(nodes, module):
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
        if isinstance(node, ast.Call) and called(node) == "getattr" and len(node.args) >= 2:
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else "*"
            return {f"{base}.{name}" for base in resolve(node.args[0])}
        if isinstance(node, ast.Call) and called(node) in IMPORTERS:
            name = first_string(node) or ""
            return {name} if name.split(".")[0] == "jax" else set()
        return set()

    inner = set()  # nodes that are only the beginning of a longer name
    for node in nodes:
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
        elif isinstance(node, ast.Call) and called(node) in {"getattr", "hasattr"} and node.args:
            inner.add(id(node.args[0]))
    for node in nodes:
        for name in resolve(node):
            if name not in {"jax", "jax.ad"} or id(node) not in inner:  # the longer name is judged
                yield name, node.lineno, id(node) not in inner


def _names_its_target(node: ast.Call) -> bool:
    """Whether the imported module is written out, or lies in the importing package: f"{__name__}.{...}"."""
    match node.args[:1]:
        case [ast.JoinedStr(values=[ast.FormattedValue(value=ast.Name(id="__name__")), ast.Constant(value=dot), *_])]:
            return str(dot).startswith(".")
    return first_string(node) is not None


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else None
    return None
