"""Of what changes nothing no mutants are made; of what stands beside it they are."""

import ast

import pytest

from tests.mutation.mutants import mistakes
from tests.mutation.silent import silent_changes

# source -> the changes left of it, where out and x have one type
LEFT = {
    "return (lax.full(ct.shape, 2.5, x.dtype),)": {"2.5 -> 3.5"},
    "return (lax.mul(ct, x),)": {"mul -> div", "x -> out"},
    "return (lax.exp(number(3, x)),)": {"exp dropped", "3 -> 4"},
    "return (lax.select(lax.eq(x, zeros_like(x)), ct, x),)": {"eq -> ne", "x -> out"},
    "return (scatter(ct, unique_indices=True),)": set(),
    "return (scatter(ct, unique_indices=False),)": {"False -> True"},
    "return (scatter(ct, clip=True),)": {"True -> False"},
    "kind = 'int32' if max(n, m) < 2**31 else 'int64'": set(),
    "kind = 1.5 if n < 2 else 2.5": {"1.5 -> 2.5", "comparison turned round", "2 -> 3", "2.5 -> 3.5"},
    "if n > 2:\n  if m > 3:\n    raise ValueError('m')": {"comparison turned round", "2 -> 3"},
    "return (_refused('the order', 'Hold it.'), ct)": {"cotangent 1"},
    "no = _refused('the order', 'Hold it.')\nreturn (no, ct)": {"cotangent 1"},
    "return (lax.exp(ct) if OLD else lax.neg(ct),)": {"exp dropped"},
    "outs, _ = sweep.forward_jaxpr(program, [x], [False])": {"x -> out"},
    "outs, pull_back = sweep.forward_jaxpr(program, [x], [False])": {"x -> out", "False -> True"},
    "return (zeros_like(ct),)": set(),
    "return (lax.exp(lax.add(ct, zeros_like(x))),)": {
        "exp dropped",
        "add: second operand dropped",
        "add: first operand dropped",
    },
}


def changes(source, one_type=True):
    lines = "\n".join(f"  {line}" for line in source.splitlines())
    function = ast.parse(f"def rule_vjp(ct, out, x, **_):\n{lines}").body[0]
    silent = silent_changes(function, one_type, flags={"OLD": True})
    return {
        change
        for node in ast.walk(function)
        for change, _ in mistakes(node, ["ct", "out", "x"])
        if not {(id(node), ""), (id(node), change)} & silent
    }


@pytest.mark.parametrize("source", LEFT)
def test_changes_that_are_left(source):
    found = {
        c for c in changes(source) if not c.startswith(("cotangent 0", "select: ", "mul: ")) or "refused" in source
    }
    assert {" ".join(c.split()[:2]) if c.startswith("cotangent") else c for c in found} == LEFT[source]


def test_shapes_are_read_where_they_differ():
    assert "x -> out" in changes("return (lax.full(x.shape, 2.5, x.dtype),)", one_type=False)
