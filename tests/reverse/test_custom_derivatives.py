"""Functions with derivatives of the user's own, in every form that JAX has: equal to jax.vjp, and to numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero, linear_call

from functional_dl import reverse

X = jnp.array([0.3, -1.2, 2.0])


def with_jvp(fun, rule, **options):
    fun = jax.custom_jvp(fun)
    fun.defjvp(functools.partial(rule, fun), **options)
    return fun


def with_vjp(fun, forward, backward, **options):
    fun = jax.custom_vjp(fun)
    fun.defvjp(forward, backward, **options)
    return fun


# The rules double or change the true derivative, so that they are seen to be used.
double_sine = with_jvp(jnp.sin, lambda f, x, t: (f(*x), 2 * jnp.cos(x[0]) * t[0]))
double_sine_back = with_vjp(jnp.sin, lambda x: (jnp.sin(x), jnp.cos(x)), lambda c, ct: (2 * c * ct,))
triple = with_jvp(lambda x: -3.0 * x, lambda f, x, t: (f(*x), f(*t)))
quotient = with_jvp(lambda x, y: x / y, lambda f, x, t: (f(*x), f(t[0], x[1])))


def through(*wrapped):
    """sin, with a rule that applies each of `wrapped`, all linear, to the tangent."""

    def rule(f, x, t):
        return f(*x), functools.reduce(lambda y, w: w(y), wrapped, t[0]) * jnp.cos(x[0])

    return with_jvp(jnp.sin, rule)


def by_sign(fun):
    """A rule with Python control flow on the value."""

    def rule(f, x, t):
        return f(*x), (2 * t[0] if x[0] > 0 else 3 * t[0])

    return with_jvp(fun, rule)


def clipped(low, high, x):
    return x


clipped = with_vjp(clipped, lambda l, h, x: (x, (l, h)), lambda r, ct: (None, None, jnp.clip(ct, *r)))


@jax.custom_gradient
def half_slope(x):
    return x**2, lambda ct: ct * x


def converted(c, x):
    """A closure over c, converted: c becomes an argument, whose cotangent the rule states."""
    fun, hoisted = jax.closure_convert(lambda x: jnp.sum((x - c) ** 2), x)
    apply = functools.partial(jax.custom_vjp, nondiff_argnums=(0,))(lambda f, x, *rest: jnp.cos(f(x, *rest)))
    apply.defvjp(
        lambda f, x, *rest: (apply(f, x, *rest), (x, rest)),
        lambda f, r, ct: (17.0 * r[0], *[42.0 * a for a in r[1]]),
    )
    assert len(hoisted) == 1
    return apply(fun, x, *hoisted)


def keywords(x):
    fun = jax.custom_vjp(lambda x, y, c=1.0: c * (x + y))
    fun.defvjp(lambda x, y, c=1.0: (fun(x, y, c), None), lambda _, ct: (ct, 2 * ct, ct))
    return jnp.square(fun(x, 5.0, c=2.0))


PROGRAMS = {
    "jvp": (double_sine, (0.7,)),
    "vjp": (double_sine_back, (0.7,)),
    "jvp that calls its function on the tangent": (triple, (0.7,)),
    "jvp that is linear in one argument": (quotient, (3.0, 2.0)),
    "tangent under jit": (through(jax.jit(lambda t: triple(t) + triple(2 * t))), (0.7,)),
    "tangent under scan": (through(lambda t: lax.scan(lambda c, _: (triple(c), None), t, None, length=2)[0]), (0.7,)),
    "tangent under cond": (through(lambda t: lax.cond(True, triple, lambda z: z, t)), (0.7,)),
    "tangent under checkpoint": (through(jax.checkpoint(triple)), (0.7,)),
    "tangent under vmap": (through(lambda t: jnp.sum(jax.vmap(triple)(jnp.stack([t, t])))), (0.7,)),
    "jvp by the value's sign, plus": (by_sign(jnp.sin), (2.0,)),
    "jvp by the value's sign, minus": (by_sign(jnp.sin), (-2.0,)),
    "jvp with a derivative inside": (
        with_jvp(jnp.sin, lambda f, x, t: (f(*x), reverse.grad(lambda y: y * jnp.sin(y))(x[0]) * t[0])),
        (0.7,),
    ),
    "jvp, a first rule of None": (functools.partial(jnp.logaddexp, 0.3), (0.7,)),
    "vjp with Nones": (lambda x: clipped(-0.1, x + 0.1, x), (0.1,)),
    "vjp with keywords": (keywords, (10.0,)),
    "custom_gradient": (half_slope, (3.0,)),
    "closure_convert": (converted, (2.0, 1.0)),
    "linear_call": (lambda x: linear_call(lambda r, x: x * r, lambda r, ct: 10 * ct * r, 3.0, x), (2.0,)),
    "linear_call with a number": (lambda x: linear_call(lambda _, x: x, lambda _, ct: 7.0, (), x), (2.0,)),
    "optimize_remat": (
        with_vjp(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, ct: (2 * jnp.cos(x) * ct,), optimize_remat=True),
        (0.7,),
    ),
}

WRAPPERS = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "scan": lambda f: lambda x, *rest: lax.scan(lambda c, _: (f(c, *rest), None), x, None, length=1)[0],
    "checkpoint": jax.checkpoint,
}
NEEDS_VALUES = {"jvp by the value's sign, plus", "jvp by the value's sign, minus"}


def assert_same(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.shape(a) == jnp.shape(e)
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


def derivatives(name, differentiate, fun, args):
    """The value and the derivatives of the first order, also in a jit and under vmap, and of the second."""
    argnums = tuple(range(len(args)))
    gradient = differentiate.grad(fun, argnums)
    yield differentiate.value_and_grad(fun, argnums)(*args)
    yield jax.jit(gradient)(*args)
    if not name.startswith("linear_call"):  # JAX has no batching rule of it
        yield jax.vmap(gradient)(*[jnp.stack([x, x]) for x in args])
    if not name.startswith(("linear_call", "optimize_remat")):  # JAX has no second derivative of these
        yield differentiate.grad(differentiate.grad(fun))(*args)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - NEEDS_VALUES))
@pytest.mark.sampled(4)
def test_equals_jax(name):
    fun, args = PROGRAMS[name]

    @jax.jit
    def all_of(*args):
        return {
            wrap: [list(derivatives(name, d, wrapped(fun), args)) for d in (reverse, jax)]
            for wrap, wrapped in WRAPPERS.items()
        }

    for ours, jaxs in all_of(*map(jnp.asarray, args)).values():
        for actual, expected in zip(ours, jaxs, strict=True):
            assert_same(actual, expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_jax_on_the_numbers_themselves(name):
    fun, args = PROGRAMS[name]
    argnums = tuple(range(len(args)))
    assert_same(reverse.value_and_grad(fun, argnums)(*args), jax.value_and_grad(fun, argnums)(*args))


def test_a_linear_rule_by_hand():
    assert reverse.grad(triple)(0.7) == -3.0
    assert reverse.grad(quotient, (0, 1))(3.0, 2.0) == (0.5, 0.0)
    assert reverse.grad(PROGRAMS["tangent under jit"][0])(0.0) == -9.0
    assert reverse.grad(PROGRAMS["tangent under scan"][0])(0.0) == 9.0


@pytest.mark.parametrize("wrap", ["eager", "jit", "scan"])
def test_symbolic_zeros(wrap):
    """The rules see which arguments and which outputs take no part."""
    seen = []

    def forward(x, y):
        seen.append((x.perturbed, y.perturbed))
        return (x.value, y.value), None

    def backward(_, cts):
        seen.append(tuple(type(ct) is SymbolicZero for ct in cts))
        return cts

    fun = with_vjp(lambda x, y: (x, y), forward, backward, symbolic_zeros=True)
    assert reverse.grad(WRAPPERS[wrap](lambda x: fun(x, 2.0)[0]))(3.0) == 1.0
    assert set(seen) == {(True, False), (False, True)}


def test_symbolic_zeros_of_tangents():
    seen = []

    def rule(f, x, t):
        seen.append(tuple(type(d) is SymbolicZero for d in t))
        return f(*x), t[0] * x[1]

    fun = with_jvp(lambda x, y: x * y, rule, symbolic_zeros=True)
    assert reverse.grad(lambda x: fun(x, 2.0))(3.0) == 2.0
    assert set(seen) == {(False, True)}


def test_numpy_arrays_come_back_from_a_rule_by_hand():
    fun = with_vjp(jnp.sin, lambda x: (jnp.sin(x), None), lambda _, ct: (np.array([1.0, 2.0, 3.0]),))
    np.testing.assert_array_equal(reverse.grad(lambda x: jnp.sum(fun(x)))(X), [1.0, 2.0, 3.0])


def test_constants_of_a_program_reach_the_rule_as_arrays():
    """A NumPy array that a jit closes over: the backward pass may take entries of it in a loop."""

    def backward(kept, ct):
        x, table = kept
        return lax.fori_loop(0, 3, lambda i, total: total + table[i] * x, 0.0) * ct, None

    fun = with_vjp(lambda x, table: x, lambda x, table: (x, (x, table)), backward)
    gradient = reverse.grad(jax.jit(lambda x: fun(x, np.arange(3.0))))
    np.testing.assert_array_equal(jax.vmap(gradient)(X), 3.0 * X)


def test_python_numbers_reach_the_rule_and_come_back():
    """Outside jit the user's passes work on the Python numbers they are given, as under jax.vjp."""
    fun = with_vjp(lambda x: x * 2, lambda x: (x.value * 2, x.value), lambda x, ct: (ct + 92,), symbolic_zeros=True)
    out, pullback = reverse.vjp(fun, 4.0)
    assert isinstance(out, float)
    assert isinstance(pullback(7.0)[0], (float, jax.Array))
    assert pullback(7.0)[0] == 99.0
    square = with_vjp(lambda x: x, lambda x: (3.0, None), lambda _, ct: (ct,))
    assert reverse.grad(lambda x: jnp.square(square(x)))(5.0) == 6.0


REFUSED = {
    "no jvp": (lambda: jax.custom_jvp(jnp.sin), AttributeError, "No JVP defined"),
    "no vjp": (lambda: jax.custom_vjp(jnp.sin), AttributeError, "No VJP defined"),
    "jvp, not a pair": (lambda: with_jvp(jnp.sin, lambda f, x, t: t[0]), TypeError, "must produce a pair"),
    "jvp, tree": (lambda: with_jvp(lambda x: (x,), lambda f, x, t: (f(*x), [t[0]] * 2)), TypeError, "pytree"),
    "jvp, shape": (lambda: with_jvp(jnp.sin, lambda f, x, t: (f(*x), jnp.stack([t[0]]))), TypeError, "shapes"),
    "vjp, length": (lambda: with_vjp(jnp.sin, lambda x: (x, x), lambda r, ct: (ct, ct)), TypeError, "must produce"),
    "vjp, no tuple": (lambda: with_vjp(jnp.sin, lambda x: (x, x), lambda r, ct: 2 * ct), TypeError, "a tuple"),
    "vjp, shape": (
        lambda: with_vjp(jnp.sin, lambda x: (x, x), lambda r, ct: (jnp.ones(3),)),
        ValueError,
        r"the bwd rule produced an output of type f.*\[3\]",
    ),
    "vjp, error": (lambda: with_vjp(jnp.sin, lambda x: (x, x), lambda r, ct: 1 / 0), ZeroDivisionError, "division"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_jaxs(name):
    make, error, message = REFUSED[name]
    for grad in (reverse.grad, jax.grad):
        with pytest.raises(error, match=message):
            grad(lambda x: jax.tree.leaves(make()(x))[0])(2.0)
