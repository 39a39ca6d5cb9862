"""Calls outside jit: the forward pass runs as Python says, the backward pass is compiled once for each structure."""

import functools
import gc
import weakref
from contextlib import contextmanager

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import jaxprs, reverse
from functional_dl.reverse import rule as table
from functional_dl.reverse import sweep
from tests.every import every

COMPILED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
events: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))


@contextmanager
def compilations():
    """Counts the programs that are lowered meanwhile."""
    start, found = len(events), []
    yield found
    found += [event for event in events[start:] if event == COMPILED]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Each test begins with nothing compiled."""
    sweep._compiled_backward.cache_clear()
    sweep._compiled_forward.cache_clear()
    monkeypatch.setattr(sweep, "_credit", sweep._Credit())


def network(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x * x)


def draw(*shapes, dtype="float64"):
    numbers = np.random.default_rng(0)
    return [jnp.asarray(numbers.uniform(0.2, 0.9, shape), dtype) for shape in shapes]


WEIGHTS = draw((3, 4), (4, 4), (4, 2))
(X,) = draw((5, 3))


def lstm(params, xs):
    """Traced anew by each call."""

    def step(state, x):
        hidden, cell = state
        gates = x @ params["input"] + hidden @ params["state"]
        forget, update, out, candidate = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(update) * jnp.tanh(candidate)
        return (jax.nn.sigmoid(out) * jnp.tanh(cell), cell), jax.nn.relu(cell)

    start = jnp.zeros((2, 3))
    (hidden, _), ys = lax.scan(step, (start, start), xs)
    return jnp.sum(hidden**2) + jnp.sum(ys)


def newton(a):
    """A while_loop, traced anew by each call."""
    x = lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-9, lambda x: 0.5 * (x + a / x), a)
    return jnp.sin(x) * x + a**2 * jnp.exp(x)


def branches(x):
    i = (x > 0).astype("int32")
    return lax.cond(i > 0, lambda x: jnp.sin(x) * jnp.exp(x) + x, lambda x: x * x, x) * jnp.tanh(x)


PROGRAMS = {
    "network": (network, (WEIGHTS, X)),
    "lstm": (lstm, ({"input": draw((4, 12))[0], "state": draw((3, 12))[0]}, *draw((6, 2, 4)))),
    "while": (newton, (jnp.asarray(2.0),)),
    "cond": (branches, (jnp.asarray(0.4),)),
    "checkpoint": (jax.checkpoint(network), (WEIGHTS, X)),
    "called": (lambda w, x: jax.jit(lambda w: network(w, x))(w) + network(w, x), (WEIGHTS, X)),
}


def test_a_second_call_does_not_compile():
    def check(name):
        fun, args = PROGRAMS[name]
        first = reverse.value_and_grad(fun)(*args)
        with compilations() as found:
            second = reverse.value_and_grad(fun)(*args)
        assert not found, f"{len(found)} programs"
        chex.assert_trees_all_equal(first, second)
        gradient = jax.jit(reverse.value_and_grad(fun)) if name == "while" else jax.value_and_grad(fun)
        chex.assert_trees_all_close(first, gradient(*args), rtol=1e-13)

    every([name for name in PROGRAMS if name != "called"], check)


def test_the_backward_pass_is_one_program():
    reverse.grad(network)(WEIGHTS, X)
    assert sweep._compiled_backward.cache_info().currsize == 1
    out, pullback = reverse.vjp(network, WEIGHTS, X)
    with compilations() as found:
        first, second = pullback(jnp.ones_like(out)), pullback(2 * jnp.ones_like(out))
    assert len(found) <= 2  # the other argument is differentiated too; and a multiplication
    chex.assert_trees_all_close(second, jax.tree.map(lambda x: 2 * x, first), rtol=1e-14)
    chex.assert_trees_all_close(first, jax.vjp(network, WEIGHTS, X)[1](jnp.ones_like(out)), rtol=1e-13)


# Programs of the same equations that differ in one parameter, number, order or type: each has its own backward pass.
def _chain(first, second=lax.sin):
    return lambda x: jnp.sum(lax.cos(lax.exp(second(lax.sin(first(x)))))) + jnp.sum(first(x))


ALIKE = [
    _chain(lambda x: lax.integer_pow(x, 3)),
    _chain(lambda x: lax.integer_pow(x, 4)),
    _chain(lambda x: lax.integer_pow(x, -4)),
    _chain(lambda x: lax.rev(x, (0,)) * jnp.arange(3.0)),
    _chain(lambda x: lax.rev(x, ()) * jnp.arange(3.0)),
    _chain(lambda x: jax.jit(lambda x: x * 2.0 + lax.sin(x) * 3.0)(x)),
    _chain(lambda x: jax.jit(lambda x: x * 3.0 + lax.sin(x) * 2.0)(x)),
    _chain(lambda x: jax.jit(lambda x: lax.sin(x) * (x + 3.0) * 2.0)(x)),
    _chain(lambda x: jax.jit(lambda x: (1 + lax.atan2(lax.stop_gradient(x) * 0, x.dtype.type(0.0))) * x * x)(x)),
    _chain(lambda x: jax.jit(lambda x: (1 + lax.atan2(lax.stop_gradient(x) * 0, x.dtype.type(-0.0))) * x * x)(x)),
    _chain(lambda x: lax.sin(x), lambda x: lax.mul(x, x.dtype.type(0.25))),
    _chain(lambda x: lax.sin(x), lambda x: lax.mul(x, x.dtype.type(0.75))),
    _chain(lambda x: lax.scan(lambda c, _: (lax.sin(c) * c * 0.5, None), x, length=3)[0]),
    _chain(lambda x: lax.scan(lambda c, _: (lax.sin(c) * c * 0.7, None), x, length=3)[0]),
    _chain(lambda x: lax.scan(lambda c, _: (lax.sin(c) * c * 0.5, None), x, length=4)[0]),
    _chain(lambda x: lax.scan(lambda c, _: (lax.sin(c) * (c - 0.5), None), x, length=3)[0]),
]


def test_programs_that_differ_are_told_apart():
    def check(i):
        for x in (jnp.asarray([0.3, 0.5, 0.7]), jnp.asarray([0.3, 0.5, 0.7], "float32")):
            if i in (3, 4) and x.dtype == "float32":
                continue
            out = reverse.grad(ALIKE[i])(x)
            assert out.dtype == x.dtype
            np.testing.assert_allclose(out, jax.grad(ALIKE[i])(x), rtol=1e-12 if x.dtype == "float64" else 1e-5)

    for _ in range(2):  # the second time all of them stand in the table
        with jax.numpy_dtype_promotion("standard"):
            every(range(len(ALIKE)), check)


def test_python_decides_in_each_call():
    seen = []

    def loss(x, n):
        seen.append(bool(x > 0.5))
        for _ in range(n):
            x = jnp.sin(x) if x > 0.5 else jnp.cos(x) * x
        return jnp.exp(x) * x

    for x in (0.2, 0.9, 0.2, 0.9, 1.4):
        for n in (4, 6):
            np.testing.assert_allclose(reverse.grad(loss)(x, n), jax.grad(loss)(x, n), rtol=1e-13)
    assert seen == [x > 0.5 for x in (0.2, 0.9, 0.2, 0.9, 1.4) for _ in range(4)]


def test_structures_that_do_not_come_back_are_not_compiled():
    def loss(x, n):
        for _ in range(n):
            x = jnp.sin(x)
        return x

    gradient = reverse.grad(loss)
    for n in range(6, 6 + sweep._Credit.most):
        gradient(1.0, n)
    assert sweep._credit.left == 0
    gradient(1.0, 59)
    counts = []
    for _ in range(3):
        with compilations() as found:
            gradient(1.0, 60)
        counts.append(len(found))
    assert counts == [0, 1, 0]  # compiled when it was met again
    assert sweep._credit.left == 1


def _wrong_sine(ct, out, x, **_):
    return (ct * 100.0,)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jax.jit(lambda x: lax.sin(x) * lax.exp(x))(x),
        lambda x: lax.scan(lambda c, _: (lax.sin(c) + c, None), x, length=2)[0],
        lambda x: lax.exp(lax.sin(lax.exp(lax.sin(lax.exp(lax.sin(x)))))),
        lambda x: lax.while_loop(lambda x: x < 5.0, lambda x: lax.sin(x) + 2 * x, x),
    ],
    ids=["jit", "scan", "operations", "while"],
)
def test_rules_registered_later_are_seen(fun, monkeypatch):
    before = reverse.grad(fun)(0.4)
    sin_p = jax.extend.core.primitives.sin_p
    right = table.PRIMITIVES[sin_p]
    monkeypatch.setitem(table.PRIMITIVES, sin_p, table.Rule(sin_p, _wrong_sine, right.probes, _wrong_sine))
    assert abs(reverse.grad(fun)(0.4) - before) > 1
    monkeypatch.undo()
    assert reverse.grad(fun)(0.4) == before


def _closing_over(array):
    return jax.jit(lambda x: jnp.sum(lax.sin(x) * array + x))


def _closing_twice(array):
    inner = _closing_over(array)
    return jax.jit(lambda x: jnp.sin(inner(x)) * jnp.sum(x) * 2.0)


@pytest.mark.parametrize("make", [_closing_over, _closing_twice])
def test_arrays_are_let_go(make):
    array, x = draw((7,), (7,))
    fun = make(array)
    expected = jax.grad(lambda x: make(array)(x) + network(WEIGHTS, X) * 0)(x)

    def loss(x):
        for _ in range(6):
            x = x * 1.0
        return fun(x)

    np.testing.assert_allclose(reverse.grad(loss)(x), expected, rtol=1e-13)
    references = weakref.ref(array), weakref.ref(x)
    del array, x, fun, loss
    jax.clear_caches()  # JAX's own
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_nan_is_found_where_it_is_born():
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="log"):
        reverse.grad(lambda x: lax.exp(lax.sin(lax.sin(lax.sin(lax.log(x))))) * x)(-1.0)
    sweep._compiled_backward.cache_clear()
    loss = lambda x: lax.sqrt(lax.sin(lax.sin(lax.sin(lax.sin(x)))))
    with jax.debug_nans(True):
        assert np.isinf(reverse.grad(loss)(0.0))  # the slope at 0
        with pytest.raises(FloatingPointError):
            reverse.grad(lambda x: lax.sin(lax.sin(lax.sin(lax.sqrt(x * x * 0.0)))))(0.0)
    assert sweep._compiled_backward.cache_info().currsize == 0


def test_with_jit_disabled_nothing_is_compiled():
    with jax.disable_jit():
        out = reverse.grad(network)(WEIGHTS, X)
    assert sweep._compiled_backward.cache_info().currsize == 0
    chex.assert_trees_all_close(out, jax.grad(network)(WEIGHTS, X), rtol=1e-13)


def test_a_deleted_residual_is_an_error():
    w, x = [jnp.array(w) for w in WEIGHTS], X
    reverse.grad(network)(w, x)
    out, pullback = reverse.vjp(network, w, x)
    w[1].delete()
    with pytest.raises(RuntimeError, match="deleted"):
        pullback(jnp.ones_like(out))


def test_arrays_on_two_devices():
    first, second = jax.devices()[:2]
    w = [jax.device_put(w, first) for w in WEIGHTS]

    def loss(w, x):
        x = jax.device_put(jnp.tanh(x @ w[0]) @ w[1], second)
        return jnp.sum(jnp.sin(jnp.sin(x)))

    bars = reverse.grad(loss)(w, jax.device_put(X, first))
    assert bars[0].devices() == {first}
    chex.assert_trees_all_close(jax.device_get(bars), jax.device_get(jax.grad(loss)(w, X)), rtol=1e-13)


def test_integers_and_zero_cotangents():
    def fun(x, n):
        for _ in range(5):
            x = jnp.sin(x) * 2.0
        return x, x[n], n + 1

    x, n = jnp.arange(3.0), jnp.asarray(1)
    for _ in range(2):
        out, pullback = reverse.vjp(fun, x, n)
        zero = np.zeros((), jax.float0)
        bars = pullback((jnp.ones(3), out[1], zero))
        expected = jax.vjp(fun, x, n)[1]((jnp.ones(3), out[1], zero))
        np.testing.assert_allclose(bars[0], expected[0], rtol=1e-14)
        assert bars[1].dtype == jax.float0 == expected[1].dtype


def test_transformed_pullbacks():
    out, pullback = reverse.vjp(lambda x: jnp.tanh(X @ x) @ x[0] * jnp.sum(jnp.sin(x)), WEIGHTS[0][:, :3])
    one = pullback(out)[0]
    assert sweep._compiled_backward.cache_info().currsize == 1
    np.testing.assert_allclose(jax.vmap(pullback)(out[None])[0][0], one, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda p, y: p(y))(pullback, out)[0], one, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda y: pullback(y))(out)[0], one, rtol=1e-14)
    leaves, tree = jax.tree.flatten(pullback)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    np.testing.assert_allclose(jax.tree.unflatten(tree, leaves)(out)[0], one, rtol=1e-14)
    assert sweep._compiled_backward.cache_info().currsize == 1


def test_with_refs():
    out, pullback = reverse.vjp(network, WEIGHTS, X)
    places = [jax.new_ref(jnp.zeros_like(w)) for w in WEIGHTS]
    pullback.with_refs(places, jax.ad.DontWant())(jnp.ones_like(out))
    chex.assert_trees_all_close([place[...] for place in places], jax.grad(network)(WEIGHTS, X), rtol=1e-13)


def test_structures_of_jaxprs():
    trace = lambda fun, x=1.0: jaxprs.structure(jax.make_jaxpr(fun)(x))
    assert trace(lambda x: lax.sin(x) * 2.0) == trace(lambda y: lax.sin(y) * 2.0)
    different = [
        trace(fun, x)
        for fun, x in [
            (lambda x: lax.sin(x) * 2.0, 1.0),
            (lambda x: lax.sin(x) * 2.0, np.float32(1.0)),
            (lambda x: lax.sin(x) * 2.0, np.ones(2)),
            (lambda x: lax.sin(x) * 3.0, 1.0),
            (lambda x: lax.cos(x) * 2.0, 1.0),
            (lambda x: lax.sin(x) * 0.0, 1.0),
            (lambda x: lax.sin(x) * -0.0, 1.0),
            (lambda x: (lax.sin(x), x), 1.0),
            (lambda x: (x, lax.sin(x)), 1.0),
            (lambda x: jax.jit(lax.sin)(x) * 2.0, 1.0),
        ]
    ]
    with jax.numpy_dtype_promotion("standard"):
        assert len(set(different)) == len(different)
    with pytest.raises(jaxprs.HoldsArray):
        trace(functools.partial(lambda a, x: x * a, X))
    assert jaxprs.frozen(0.0) != jaxprs.frozen(-0.0)
    assert jaxprs.frozen(1) != jaxprs.frozen(True)
    assert jaxprs.frozen(float("nan")) == jaxprs.frozen(float("nan"))
    with pytest.raises(jaxprs.Unstructured):
        jaxprs.frozen(lambda: X)
