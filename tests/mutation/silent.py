"""Changes of a rule that change nothing that it computes: no mutants are made of them.

Each kind is one by construction, whatever the rule: of an argument a function reads the type alone; a promise that is
not made costs time; what refuses returns no cotangent; zeros are zeros, whatever their factor or sign; a record that
is dropped may be of anything; a branch for another version of JAX is not taken (and is judged on that version).
"""

import ast

TYPED = {"dtype", "ndim"}  # of another value of the same type there is nothing to tell
PROMISES = {"unique_indices", "indices_are_sorted", "is_stable"}  # kept or not, the result is the same
REFUSES = "_refused"


def silent_changes(
    function: ast.FunctionDef, one_type: bool = False, unread: bool = False, flags: dict[str, bool] | None = None
) -> set[tuple[int, str]]:
    """Pairs (id of a node, change): "" for any change of the node.

    Args:
      one_type: `out` and the first primal have one type.
      unread: of both the formula sees the type alone.
      flags: the file's constants that are True or False.
    """
    found, flags = set(), flags or {}
    primal = [a.arg for a in function.args.args][2:3]
    refusals = {REFUSES} | {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _is_refusal(node.value, {REFUSES})
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        if unread and isinstance(node, ast.Name) and node.id in primal:
            found.add((id(node), f"{node.id} -> out"))
        elif isinstance(node, ast.Attribute) and node.attr in (TYPED | {"shape"} if one_type else TYPED):
            found.add((id(node.value), ""))
        elif isinstance(node, ast.keyword) and node.arg in PROMISES:
            found.add((id(node.value), "True -> False"))  # not the reverse: a promise that is broken is a fault
        elif isinstance(node, ast.IfExp) and isinstance(node.test, ast.Name) and node.test.id in flags:
            other = node.orelse if flags[node.test.id] else node.body
            found |= {(id(part), "") for part in ast.walk(other)}
        elif isinstance(node, ast.IfExp) and _are_integer_types(node.body, node.orelse):
            found |= {(id(part), "") for part in ast.walk(node.test)}  # arrays of 2^31 entries: none is in a test
        elif isinstance(node, ast.Call):
            found |= _of_types_alone(node, one_type) | _of_zeros(node)
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            for i, bar in enumerate(node.value.elts):
                if _is_refusal(bar, refusals) or _is_zeros(bar):
                    changes = ("times -1", "times 2", "times 0.5", "dropped")
                    found |= {(id(node), f"cotangent {i} {change}") for change in changes}
        elif isinstance(node, ast.Assign) and _drops_the_record(node):
            found |= {(id(part), "False -> True") for part in ast.walk(node.value)}
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


def _is_zeros(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "zeros_like"


def _of_zeros(call: ast.Call) -> set[tuple[int, str]]:
    """y + 0 is y - 0."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return {(id(call), "add -> sub")} if name == "add" and len(call.args) == 2 and _is_zeros(call.args[1]) else set()


def _drops_the_record(node: ast.Assign) -> bool:
    """outs, _ = forward_jaxpr(...): its flags say what to record for the backward pass."""
    [target], value = node.targets[:1], node.value
    name = getattr(value.func, "attr", "") if isinstance(value, ast.Call) else ""
    last = target.elts[-1] if isinstance(target, ast.Tuple) else target
    return name == "forward_jaxpr" and isinstance(last, ast.Name) and last.id == "_"


def _of_types_alone(call: ast.Call, one_type: bool) -> set[tuple[int, str]]:
    """number(value, x) reads x's dtype; is_complex(x) too; zeros_like(x) its shape besides."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    read = {"number": call.args[1:2], "is_complex": call.args}.get(name, [])
    if name in ("zeros_like", "ones_like") and one_type:
        read = call.args
    found = {(id(x), "") for x in read if isinstance(x, ast.Name)}
    if name in ("zeros_like", "ones_like"):
        found |= {(id(x), change) for x in call.args for change in ("real -> imag", "imag -> real")}
    return found
