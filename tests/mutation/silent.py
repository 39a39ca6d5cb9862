"""Changes of a rule that change nothing that it computes: no mutants are made of them.

Each kind is one by construction, whatever the rule: of an argument a function reads the type alone; a promise that is
not made costs time; what refuses returns no cotangent.
"""

import ast

TYPED = {"dtype", "ndim"}  # of another value of the same type there is nothing to tell
PROMISES = {"unique_indices", "indices_are_sorted", "is_stable"}  # kept or not, the result is the same
REFUSES = "_refused"


def silent_changes(function: ast.FunctionDef, entry_by_entry: bool) -> set[tuple[int, str]]:
    """Pairs (id of a node, change): "" for any change of the node.

    Args:
      entry_by_entry: `out` and the primal have one type.
    """
    found = set()
    refusals = {REFUSES} | {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _is_refusal(node.value, {REFUSES})
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and node.attr in (TYPED | {"shape"} if entry_by_entry else TYPED):
            found.add((id(node.value), ""))
        elif isinstance(node, ast.keyword) and node.arg in PROMISES:
            found.add((id(node.value), "True -> False"))  # not the reverse: a promise that is broken is a fault
        elif isinstance(node, ast.IfExp) and _are_integer_types(node.body, node.orelse):
            found |= {(id(part), "") for part in ast.walk(node.test)}  # arrays of 2^31 entries: none is in a test
        elif isinstance(node, ast.Call):
            found |= _of_types_alone(node, entry_by_entry)
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            for i, bar in enumerate(node.value.elts):
                if _is_refusal(bar, refusals):
                    changes = ("times -1", "times 2", "times 0.5", "dropped")
                    found |= {(id(node), f"cotangent {i} {change}") for change in changes}
        elif isinstance(node, ast.If) and len(node.body) == 1 and isinstance(node.body[0], ast.Raise):
            found |= {
                (id(part), "") for top in (node.test, *node.body) for part in ast.walk(top)
            }  # when to refuse is tested where it is refused
    return found


def _is_refusal(node: ast.AST, names: set[str]) -> bool:
    """A call of `_refused`, or a name that was given one."""
    name = node.func if isinstance(node, ast.Call) else node
    return isinstance(name, ast.Name) and name.id in names


def _are_integer_types(*nodes: ast.AST) -> bool:
    return all(isinstance(n, ast.Constant) and str(n.value).startswith(("int", "uint")) for n in nodes)


def _of_types_alone(call: ast.Call, entry_by_entry: bool) -> set[tuple[int, str]]:
    """number(value, x) reads x's dtype; is_complex(x) too; zeros_like(x) its shape besides."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    read = {"number": call.args[1:2], "is_complex": call.args}.get(name, [])
    if name in ("zeros_like", "ones_like") and entry_by_entry:
        read = call.args
    found = {(id(x), "") for x in read if isinstance(x, ast.Name)}
    if name in ("zeros_like", "ones_like"):
        found |= {(id(x), change) for x in call.args for change in ("real -> imag", "imag -> real")}
    return found
