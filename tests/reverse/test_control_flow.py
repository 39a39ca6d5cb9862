"""Branches and loops: against jax.grad where it can, against the same loop of known length where it refuses."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import io_callback

from functional_dl import reverse
from functional_dl.jaxprs import equations

M = jnp.array(np.linspace(0.2, 1.3, 6).reshape(2, 3))
W = jnp.array(np.sin(np.arange(9.0)).reshape(3, 3))
XS = jnp.array(np.sin(np.arange(15.0)).reshape(5, 3))


def recurrent(weight, state, xs):
    def step(state, x):
        state = jnp.tanh(state @ weight.T + x)
        return state, jnp.sum(2 * state)

    state, ys = lax.scan(step, state, xs)
    return jnp.sum(state) + jnp.sum(ys**2)


def invariant_work(weight, xs):
    def step(state, x):
        mixed = jnp.exp(weight) @ weight  # the same at every step: computed once, and differentiated once
        return state * x @ mixed, state

    return jnp.sum(lax.scan(step, jnp.ones(3), xs)[0])


def nested(x):
    def outer(total, y):
        def inner(value, z):
            branch = lax.cond(z > 0.5, jnp.sin, lambda q: q * q, value * z)
            return lax.fori_loop(0, 2, lambda i, q: jnp.cos(q) + z, branch), value

        return lax.scan(inner, total, y)[0], total

    return lax.scan(outer, 1.0, x)[0]


def integer_carry(x):
    def step(state, y):
        i, total = state
        return (i + 1, total + i.astype(y.dtype) * jnp.sum(y)), i

    return lax.scan(step, (0, 0.0), x)[0][1]


PROGRAMS = {
    "recurrent": (recurrent, (W, XS[0], XS)),
    "recurrent under vmap": (lambda w, h, x: jnp.sum(jax.vmap(recurrent, (None, 0, None))(w, h, x)), (W, XS, XS)),
    "invariant work": (invariant_work, (W, XS)),
    "fori_loop": (lambda x: jnp.sum(lax.fori_loop(0, 5, lambda i, y: jnp.sin(y) * (i + 1.0), x)), (M,)),
    "cond, first": (lambda x: jnp.sum(lax.cond(x.sum() > 0, lambda y: jnp.sin(y) * y, lambda y: y**3, x)), (M,)),
    "cond, second": (lambda x: jnp.sum(lax.cond(x.sum() < 0, lambda y: jnp.sin(y) * y, lambda y: y**3, x)), (M,)),
    "switch under vmap": (
        lambda x: jnp.sum(
            jax.vmap(lambda i, y: lax.switch(i, [jnp.sin, lambda z: z * z * jnp.cos(z), jnp.exp], y))(
                jnp.array([0, 2]), x
            )
        ),
        (M,),
    ),
    "cond that keeps different things": (
        lambda x: lax.cond(x[0, 0] > 0, lambda: jnp.sum(x @ x.T), lambda: jnp.sum(jnp.sin(x) * jnp.cos(x))),
        (M,),
    ),
    "nested four deep": (nested, (M,)),
    "integer carry": (integer_carry, (M,)),
    "associative_scan": (lambda x: jnp.sum(lax.associative_scan(jnp.multiply, x, axis=1)), (M,)),
    "map": (lambda x: jnp.sum(lax.map(lambda r: jnp.sin(r) * r[0], x)), (M,)),
    "dots saved": (
        lambda x: jnp.sum(
            jax.checkpoint(
                lambda y: jnp.sin(jnp.sin(y) @ W) @ W, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
            )(x)
        ),
        (M,),
    ),
    "checkpointed scan": (
        lambda x: lax.scan(jax.checkpoint(lambda c, y: (jnp.sin(c * y), c)), jnp.ones(3), x)[0].sum(),
        (XS,),
    ),
}


assert_close = functools.partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.sampled(3)
def test_equals_jax(name):
    fun, args = PROGRAMS[name]
    argnums = tuple(range(len(args)))
    ours, expected = jax.jit(lambda *args: [d.grad(fun, argnums)(*args) for d in (reverse, jax)])(*args)
    assert_close(ours, expected)
    assert_close(reverse.grad(fun, argnums)(*args), expected)


@pytest.mark.parametrize("name", ["recurrent", "nested four deep", "switch under vmap", "cond, first"])
@pytest.mark.sampled(3)
def test_second_order_equals_jax(name):
    fun, args = PROGRAMS[name]

    def norm(grad):
        return lambda *a: jnp.sum(grad(fun)(*a) ** 2)

    pairs = ((jax, jax), (reverse, reverse), (jax, reverse))
    expected, *ours = jax.jit(lambda *a: [outer.grad(norm(inner.grad))(*a) for outer, inner in pairs])(*args)
    for actual in ours:
        assert_close(actual, expected, rtol=1e-11)


def while_sines(weight, x, steps):
    def step(state):
        i, y = state
        return i + 1, jnp.sin(y * weight) + x

    return jnp.sum(lax.while_loop(lambda state: state[0] < steps, step, (0, x))[1])


def scanned_sines(weight, x, steps):
    return jnp.sum(lax.scan(lambda y, _: (jnp.sin(y * weight) + x, None), x, None, length=steps)[0])


@pytest.mark.parametrize("steps", [0, 1, 2, 31, 32, 33, 64, 65, 1000])
@pytest.mark.sampled(3)
def test_while_equals_the_scan_of_as_many_steps(steps):
    def both(weight, x):
        ours = reverse.grad(while_sines, (0, 1))(weight, x, steps)
        return ours, jax.grad(scanned_sines, (0, 1))(weight, x, steps)

    ours, expected = jax.jit(both)(1.1, M)
    assert_close(ours, expected)
    # the number of steps may be known at run time alone
    assert_close(jax.jit(reverse.grad(while_sines, (0, 1)))(1.1, M, steps), expected)
    if steps in (0, 33):
        assert_close(reverse.grad(while_sines, (0, 1))(1.1, M, steps), expected)


def newton(a):
    return lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a)


def test_newton_iteration_where_jax_refuses():
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(newton)(2.0)
    scanned = jax.grad(lambda a: lax.scan(lambda x, _: (0.5 * (x + a / x), None), a, None, length=5)[0])
    np.testing.assert_allclose(reverse.grad(newton)(2.0), scanned(2.0), rtol=1e-12)
    a = jnp.array([0.5, 2.0, 300.0])
    np.testing.assert_allclose(jax.vmap(reverse.grad(newton))(a), 0.5 / jnp.sqrt(a), rtol=1e-10)
    np.testing.assert_allclose(reverse.grad(lambda a: jnp.sum(jax.vmap(newton)(a)))(a), 0.5 / jnp.sqrt(a), rtol=1e-10)


def test_while_loops_memory_does_not_grow_with_the_steps():
    def memory(steps):
        fun = jax.jit(reverse.grad(lambda w: while_sines(w, jnp.ones(1000), steps)))
        return fun.lower(1.1).compile().memory_analysis().temp_size_in_bytes

    assert memory(100_000) == memory(10)
    assert memory(10) < 200 * 8 * 1000  # the checkpoints, twice, and a few states: far from one state a step


def test_a_while_loop_is_run_again_a_few_times():
    """Its step T times forward, T times in the backward pass, and T log2(T / 32) / 2 times for the states between."""
    steps, count = 1000, 0

    def note(y):
        nonlocal count
        count += 1
        return y

    @jax.custom_jvp
    def counted(y):
        return jax.pure_callback(note, jax.ShapeDtypeStruct(y.shape, y.dtype), y)

    counted.defjvp(lambda x, t: (counted(*x), t[0]))

    def loop(w):
        return lax.while_loop(lambda s: s[0] < steps, lambda s: (s[0] + 1, jnp.sin(counted(s[1]) * w)), (0, w))[1]

    reverse.grad(loop)(1.1)
    assert 2 * steps <= count <= steps * (2 + 0.5 * np.log2(steps / 32) + 1)


def test_while_second_order():
    def second(grad, fun):
        return jax.jit(grad(grad(lambda w: fun(w, 0.3, 40))))(1.1)

    np.testing.assert_allclose(second(reverse.grad, while_sines), second(jax.grad, scanned_sines), rtol=1e-11)


def test_a_policy_may_say_where_a_value_is_saved():
    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=["kept"],
        names_which_can_be_offloaded=[],
        offload_src="device",
        offload_dst="pinned_host",
    )

    @functools.partial(jax.checkpoint, policy=policy)
    def fun(x):
        return jnp.sum(jnp.cos(checkpoint_name(jnp.sin(jnp.exp(x)), "kept")))

    _, pullback = jax.jit(lambda x: reverse.vjp(fun, x))(M)
    assert sum(leaf.size for leaf in jax.tree.leaves(pullback)) == 2 * M.size  # x, and what has the name
    assert_close(pullback(1.0), jax.vjp(fun, M)[1](1.0))


def test_a_loop_computes_what_does_not_change_once():
    program = jax.make_jaxpr(lambda w, xs: reverse.vjp(invariant_work, w, xs)[0])(W, XS)
    loops = [eqn.params["jaxpr"] for eqn in equations(program) if eqn.primitive.name == "scan"]
    steps = {eqn.primitive.name for body in loops for eqn in equations(body)}
    assert "dot_general" in steps
    assert "exp" not in steps


def test_a_loop_keeps_what_does_not_change_once():
    weight = jnp.ones((50, 50))

    def fun(weight, xs):
        return jnp.sum(lax.scan(lambda h, x: (jnp.tanh(weight @ h + x), None), jnp.ones(50), xs)[0])

    _, pullback = jax.jit(lambda w, xs: reverse.vjp(fun, w, xs))(weight, jnp.ones((100, 50)))
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept <= 2500 + 3 * 100 * 50


# What a checkpoint keeps and computes again, within loops, branches and calls.

STEP_WEIGHTS = W


def _three_products(w, x):
    for _ in range(3):
        x = jnp.sin(x @ w)
    return x


def _in_a_scan(w):
    return lax.scan(lambda x, y: (_three_products(w, x) + y, jnp.sum(w @ x)), jnp.ones(3), jnp.arange(2.0))


def _in_a_branch(w):
    return lax.cond(w[0, 0] < 1e9, lambda x: _three_products(w, x), lambda x: w @ x, jnp.ones(3))


def _in_a_branch_in_a_scan(w):
    branch = lambda x, i: lax.cond(i > 0, lambda x: _three_products(w, x), lambda x: w @ x, x)
    return lax.scan(lambda x, i: (branch(x, i), None), jnp.ones(3), jnp.arange(3))[0]


def _in_calls(w):
    return jax.jit(lambda w: jnp.sin(jax.jit(_three_products)(w, jnp.ones(3))))(w)


def _cubed_in_a_loop(w):
    return _three_products(lax.fori_loop(0, 2, lambda _, w: jnp.sin(w @ w), w), jnp.ones(3))


POLICIES = {
    "inputs": None,
    "products": jax.checkpoint_policies.dots_saveable,
    "everything": jax.checkpoint_policies.everything_saveable,
}


def _in_a_branch_that_does_not_read_all(w):
    y = jnp.sin(w)
    return lax.cond(w[0, 0] < 1e9, lambda w, y: 2.0 * y, lambda w, y: w * y, w, y)


CHECKPOINTED = [
    _in_a_scan,
    _in_a_branch,
    _in_a_branch_in_a_scan,
    _in_calls,
    _cubed_in_a_loop,
    _in_a_branch_that_does_not_read_all,
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fun", CHECKPOINTED, ids=lambda fun: fun.__name__)
@pytest.mark.sampled(4)
def test_checkpoint_policy_within_loops_branches_and_calls(fun, policy):
    """Equal to JAX's, and as many products and sines in the backward pass as in JAX's, at most."""
    fun = jax.checkpoint(fun, policy=POLICIES[policy])
    y, pullback = reverse.vjp(fun, STEP_WEIGHTS)
    expected_y, expected = jax.vjp(fun, STEP_WEIGHTS)
    ct = jax.tree.map(jnp.cos, y)
    chex.assert_trees_all_close(y, expected_y, rtol=1e-13)
    chex.assert_trees_all_close(pullback(ct), expected(ct), rtol=1e-12, atol=1e-13)
    chex.assert_trees_all_close(jax.jit(pullback)(ct), expected(ct), rtol=1e-12, atol=1e-13)
    ours, theirs = [str(jax.make_jaxpr(pull)(ct)) for pull in (pullback, expected)]
    for name in (" sin ", " dot_general"):
        assert ours.count(name) <= theirs.count(name), name


def test_checkpoint_twice_and_mapped():
    """The backward pass that computes again is itself differentiated, and mapped."""
    fun = jax.checkpoint(_in_a_branch_in_a_scan, policy=POLICIES["products"])

    def squared(grad):
        return lambda w: jnp.sum(grad(lambda w: jnp.sum(fun(w)))(w) ** 2)

    stack = jnp.stack([STEP_WEIGHTS, 0.5 * STEP_WEIGHTS])
    ours = jax.jit(jax.vmap(reverse.grad(squared(reverse.grad))))(stack)
    np.testing.assert_allclose(ours, jax.vmap(jax.grad(squared(jax.grad)))(stack), rtol=1e-11, atol=1e-12)


def test_checkpoint_keeps_only_what_is_read():
    """The last product's value, which no derivative reads, is not kept, nor an input that none reads."""
    policy = POLICIES["products"]
    fun = jax.checkpoint(lambda w, b, x: (jnp.sin(x @ w) @ w) + b, policy=policy)
    _, pullback = reverse.vjp(fun, STEP_WEIGHTS, jnp.arange(3.0), jnp.ones(3))
    kept = jax.tree.leaves(pullback)
    assert sorted(x.shape for x in kept) == [(3,), (3,), (3, 3)]  # x, the first product, w


def test_effects_of_a_checkpointed_program():
    """A note is taken again when the program runs again, unless a policy saves it; input and output never are."""
    notes = []

    def noted(x):
        y = jnp.sin(x)
        jax.debug.callback(lambda y: notes.append(float(y)), y)
        return jnp.exp(y)

    for policy, count in (("nothing_saveable", 2), ("everything_saveable", 1)):
        notes.clear()
        reverse.grad(jax.checkpoint(noted, policy=getattr(jax.checkpoint_policies, policy)))(1.0)
        jax.effects_barrier()
        assert len(notes) == count

    def named(x):
        y, z = checkpoint_name(x + 1.0, "y"), checkpoint_name(x * 2.0, "z")
        jax.jit(lambda y, z: jax.debug.callback(lambda *yz: notes.append(yz), jnp.cos(y), z))(y, z)
        jax.debug.callback(lambda *yz: notes.append(yz), y, z)
        return jnp.exp(y * z)

    def all_but(*names):
        return lambda primitive, *_, **params: params.get("name") not in names and str(primitive) != "cos"

    for names, count in (((), 2), (("y",), 2), (("y", "z"), 4)):  # it is saved, but where nothing that it notes is
        for grad in (reverse.grad, jax.grad):
            notes.clear()
            grad(jax.checkpoint(named, policy=all_but(*names)))(1.0)
            jax.effects_barrier()
            assert len(notes) == count, (names, grad.__module__)

    def reading(x):
        return x * io_callback(lambda: np.float64(2.0), jax.ShapeDtypeStruct((), np.float64))

    for grad in (reverse.grad, jax.grad):
        with pytest.raises(NotImplementedError, match="Effects not supported in partial-eval of `checkpoint`"):
            grad(jax.checkpoint(reading))(1.0)


def test_checkpoint_behind_a_barrier_for_chosen_arguments():
    fun = jax.checkpoint(lambda w, x: jnp.sin(x @ w), prevent_cse=(False, True))
    program = jax.make_jaxpr(reverse.grad(lambda w, x: jnp.sum(fun(w, x)), (0, 1)))(STEP_WEIGHTS, jnp.ones(3))
    [barrier] = [eqn for eqn in equations(program) if eqn.primitive.name == "optimization_barrier"]
    assert all(var.aval.shape == (3,) for var in barrier.invars)


def test_a_branch_for_another_platform_is_not_lowered():
    def fun(x):
        loop = lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1]
        return lax.platform_dependent(x, tpu=loop, default=lambda x: jnp.sin(x) ** 2)

    gradient = jax.jit(reverse.grad(lambda x: fun(x).sum()))
    np.testing.assert_allclose(gradient(XS), jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 2))(XS), rtol=1e-13)
    assert "while" not in gradient.lower(XS).as_text()
