"""The reader of programs: its interpreter against JAX's own execution, and what its clients rely on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import calculus, check, jaxprs, reverse

X = jnp.sin(jnp.arange(12.0)).reshape(4, 3)


def scanned(reverse, length):
    def fun(x):
        weight = x[0] + 2.0
        return lax.scan(lambda c, y: (c * y + weight, (c, y[0])), x[0], x[:length], reverse=reverse)

    return fun


def mapped_while(x):
    steps = jnp.array([2, 0, 3])
    return jax.vmap(lambda n, y: lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, 2 * s[1] + y), (0, y))[1])(
        steps, x[0]
    )


@jax.custom_vjp
def own(x):
    return jnp.exp(x)


own.defvjp(lambda x: (own(x), None), lambda _, ct: (ct,))

PROGRAMS = {
    "calls": lambda x: jax.checkpoint(lambda y: own(jax.jit(jnp.sin)(y)) + jax.nn.relu(y))(x),
    "scan": scanned(False, 4),
    "reversed scan": scanned(True, 4),
    "scan without steps": scanned(False, 0),
    "while": lambda x: lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] + x), (0, x)),
    "while that does not start": lambda x: lax.while_loop(lambda y: y[0, 0] > 1, lambda y: y + x, x),
    "while under vmap": mapped_while,
    **{
        f"switch, index {i}": lambda x, i=i: lax.switch(i + x.astype(int)[0, 0], [jnp.sin, jnp.cos], x)
        for i in (-3, 0, 1, 7)
    },
    "nested": lambda x: lax.scan(
        lambda c, y: (lax.cond(y[0] > 0, jnp.sin, lambda z: mapped_while(z[None]), c), c), x[0], x
    ),
}


class Counting(jaxprs.Interpreter):
    """Arrays, and a note of what is applied as it stands."""

    def __init__(self, apart=True):
        self.applied, self.apart = [], apart

    def takes_apart(self, eqn, operands):
        return self.apart

    def apply(self, eqn, operands):
        self.applied.append(eqn.primitive.name)
        return super().apply(eqn, operands)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_interpreter_does_what_jax_does(name, apart):
    jaxpr, tree = jaxprs.staged(PROGRAMS[name], X)
    interpreter = Counting(apart)
    outs = interpreter.run(jaxpr, [X])
    expected = jax.jit(PROGRAMS[name])(X)
    for actual, wanted in zip(jax.tree.leaves(jax.tree.unflatten(tree, outs)), jax.tree.leaves(expected), strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=1e-14)
    assert not set(interpreter.applied) & set(jaxprs.CALLS)
    assert apart != bool(set(interpreter.applied) & {"scan", "while", "cond"}) or name == "calls"


def test_a_meaning_may_be_anything():
    """Of which inputs is an output made: values are sets of their numbers."""

    class Origins(jaxprs.Interpreter):
        def constant(self, value, aval):
            return frozenset()

        def apply(self, eqn, operands):
            return [frozenset().union(*operands)] * len(eqn.outvars)

        def row(self, eqn, x, t):
            return x

        def stack(self, eqn, rows, aval):
            return frozenset().union(*rows)

    def fun(a, b, c):
        return lax.scan(lambda s, y: (s + jnp.sin(y), y * c), a, b[:, 0])

    jaxpr, _ = jaxprs.staged(fun, 1.0, X, 2.0)
    assert Origins().run(jaxpr, [frozenset("a"), frozenset("b"), frozenset("c")]) == [set("ab"), set("bc")]


def test_a_loop_may_be_too_long():
    class Short(jaxprs.Interpreter):
        most_rounds = 3

    def steps(n):
        return lambda x: lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1]), (0, x))

    Short().run(jaxprs.staged(steps(3), X)[0], [X])
    Short().run(jaxprs.staged(scanned(False, 3), X)[0], [X])
    for fun in (steps(4), scanned(False, 4)):
        with pytest.raises(NotImplementedError, match="a loop of more than 3 rounds"):
            Short().run(jaxprs.staged(fun, X)[0], [X])


def test_parts_of_a_program():
    def fun(x, y):
        used = jnp.sin(x)
        jnp.cos(y)
        return used * 2.0, jnp.exp(y)

    jaxpr, _ = jaxprs.staged(fun, 1.0, 2.0)
    named = lambda found: [eqn.primitive.name for eqn in found]
    assert named(jaxprs.equations(jaxpr)) == ["sin", "cos", "mul", "exp"]
    assert named(jaxprs.needed(jaxpr)) == ["sin", "mul", "exp"]
    first, _ = jaxprs.open_jaxpr(jaxpr)[0].outvars
    assert named(jaxprs.needed(jaxpr, [first])) == ["sin", "mul"]
    assert named(jaxprs.needed(jaxpr, [first], lambda eqn: eqn.primitive.name == "cos")) == ["sin", "cos", "mul"]
    assert {"scan", "cond", "while", "sin"} <= jaxprs.primitive_names(jaxprs.staged(PROGRAMS["nested"], X)[0])
    with pytest.raises(LookupError, match="applies no primitive 'tan'"):
        jaxprs.primitive_named("tan", fun, 1.0, 2.0)


def test_the_lines_of_a_program_stay_the_users():
    """What is replayed has the line of what it came from, or none: never one of this package's."""

    def fun(x):
        return jnp.sum(lax.scan(lambda c, y: (jax.jit(jnp.sin)(c) * y, c), x, jnp.ones(3))[0])

    jaxpr = jax.make_jaxpr(reverse.grad(fun))(1.0)
    lines = {jaxprs.source_of(eqn).rpartition("/")[2].split(":")[0] for eqn in jaxprs.all_equations(jaxpr)}
    assert lines == {"", "test_jaxprs.py"}


# --- clients ----------------------------------------------------------------------------------------------------------


def growing(x):
    """Under vmap some entries have finished while others go on: those stand still, and overflow no more."""
    steps = jnp.array([1, 3])
    start = jnp.array([1e200, 1.0]) * x
    return jax.vmap(lambda n, y: lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 1e100), (0, y))[1])(
        steps, start
    )


def test_finished_entries_of_a_loop_under_vmap_stand_still():
    assert not check.find_nan(growing, 1.0).found
    assert check.find_nan(lambda x: growing(x * 1e10), 1.0).found
    found = calculus.limit(lambda x: mapped_while(x * jnp.ones((1, 3)))[2], 2.0)
    assert found.exists
    assert abs(found.value - 30.0) <= found.error


def test_a_series_passes_a_scan_without_steps():
    def fun(x):
        c, ys = lax.scan(lambda c, y: (c * y, c), x, jnp.zeros(0))
        return c + jnp.sum(ys)

    np.testing.assert_array_equal(calculus.taylor(fun, 1.5, 2), [1.5, 1.0, 0.0])
