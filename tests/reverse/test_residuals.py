"""What is kept for the backward sweep where keeping costs memory: loops, pullbacks out of a jit, checkpoints."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from functional_dl import reverse
from functional_dl.jaxprs import equations
from functional_dl.reverse import costs
from functional_dl.reverse.rule import PRIMITIVES
from tests.every import every

SIZE, BATCH, STEPS = 32, 16, 48
EPS = np.finfo(np.float64).eps


def _numbers(seed, *shape):
    return jnp.array(np.random.default_rng(seed).normal(size=shape))


def _rnn(weights, hidden, x):
    return jnp.tanh(x @ weights[0] + hidden @ weights[1]), hidden


def _gru(weights, hidden, x):
    update = jax.nn.sigmoid(x @ weights[0] + hidden @ weights[1])
    reset = jax.nn.sigmoid(x @ weights[2] + hidden @ weights[3])
    new = jnp.tanh(x @ weights[4] + reset * (hidden @ weights[5]))
    return (1 - update) * new + update * hidden, None


def _lstm(weights, state, x):
    hidden, cell = state
    forget, add, out = (jax.nn.sigmoid(x @ weights[i] + hidden @ weights[i + 1]) for i in (0, 2, 4))
    cell = forget * cell + add * jnp.tanh(x @ weights[6] + hidden @ weights[7])
    return (out * jnp.tanh(cell), cell), None


def _clipped(weights, hidden, x):
    """A mask, a state that is passed on, and one that counts."""
    hidden, fixed, count = hidden
    hidden = jnp.where(hidden > 0, hidden, 0.1 * hidden) @ weights[0] + x * fixed
    return (hidden, fixed, count + 1), hidden * count.astype(hidden.dtype)


def _start(kind):
    zeros = jnp.zeros((BATCH, SIZE))
    return {"lstm": (zeros, zeros), "clipped": (zeros + 0.3, zeros + 0.5, jnp.int32(0))}.get(kind, zeros)


CELLS = {"rnn": (_rnn, 2), "gru": (_gru, 6), "lstm": (_lstm, 8), "clipped": (_clipped, 1)}


def _scanned(kind, **options):
    cell, count = CELLS[kind]
    weights = [_numbers(i, SIZE, SIZE) / SIZE**0.5 for i in range(count)]

    def loss(weights, xs):
        carry, ys = lax.scan(functools.partial(cell, weights), _start(kind), xs, **options)
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves((carry, ys)) if y.dtype == jnp.float64)

    return loss, weights, _numbers(9, STEPS, BATCH, SIZE)


@pytest.mark.parametrize(("kind", "share"), [("rnn", 0.6), ("gru", 0.6), ("lstm", 0.6)])
def test_scans_keep_little(kind, share):
    loss, weights, xs = _scanned(kind)
    ours, theirs = (jax.jit(g(loss)).lower(weights, xs).compile() for g in (reverse.grad, jax.grad))
    assert ours.cost_analysis()["flops"] <= theirs.cost_analysis()["flops"]
    assert ours.memory_analysis().temp_size_in_bytes <= share * theirs.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.sampled(3)
def test_gradients_of_scans(kind):
    def agree(options):
        loss, weights, xs = _scanned(kind, **options)
        weights, xs = [w[:4, :4] for w in weights], xs[:5, :, :4]
        loss = functools.partial(_small, kind, options)
        direction = [jnp.cos(w) for w in weights]

        def both(gradient):
            along = lambda w: sum(jnp.vdot(a, b) for a, b in zip(gradient(loss)(w, xs), direction))
            forward = jax.jvp(lambda w: gradient(loss)(w, xs), (weights,), (direction,))[1]
            return gradient(loss)(weights, xs), gradient(along)(weights), forward

        ours, theirs = jax.jit(lambda: both(reverse.grad))(), jax.jit(lambda: both(jax.grad))()
        chex.assert_trees_all_close(ours, theirs, rtol=1e4 * EPS, atol=1e4 * EPS)

    every([{}, {"reverse": True}, {"unroll": 2}], agree)


def _small(kind, options, weights, xs):
    start = jax.tree.map(lambda x: x[..., :4] if x.ndim else x, _start(kind))
    carry, ys = lax.scan(functools.partial(CELLS[kind][0], weights), start, xs, **options)
    return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves((carry, ys)) if y.dtype == jnp.float64)


def _network(weights, x):
    for w in weights:
        x = jnp.tanh(jnp.sin(x @ w) + jax.nn.relu(x))
    shifted = jnp.exp(x - jnp.max(x, axis=1, keepdims=True))
    return jnp.mean((shifted / jnp.sum(shifted, axis=1, keepdims=True)) ** 2)


WEIGHTS = [_numbers(i, SIZE, SIZE) / SIZE**0.5 for i in range(4)]
INPUTS = _numbers(7, BATCH, SIZE)


def _kept(vjp, fun):
    """The pullback that leaves a jit, and the bytes that it takes along besides the arguments."""
    pullback = jax.jit(lambda w, x: vjp(fun, w, x)[1])(WEIGHTS, INPUTS)
    arguments = [*WEIGHTS, INPUTS]
    own = [x for x in jax.tree.leaves(pullback) if not any(np.array_equal(x, a) for a in arguments)]
    return pullback, sum(x.nbytes for x in own)


def test_pullback_out_of_a_jit():
    (ours, kept), (theirs, all_of_it) = _kept(reverse.vjp, _network), _kept(jax.vjp, _network)
    assert kept <= 0.6 * all_of_it
    expected = theirs(1.0)
    chex.assert_trees_all_close(ours(1.0), expected, rtol=1e3 * EPS, atol=1e2 * EPS)
    chex.assert_trees_all_close(jax.jit(lambda p: p(1.0))(ours), expected, rtol=1e3 * EPS, atol=1e2 * EPS)


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: lambda x: f(x)], ids=["jit", "eager"])
def test_an_equation_that_hands_on_its_operand_computes_nothing(wrap):
    """A broadcast to its own shape, say: the value has no other origin than before."""

    def fun(x):
        return lax.sin(lax.broadcast_in_dim(lax.sin(x), (3,), (0,))) * x

    x = jnp.array([0.3, -1.0, 2.0])
    _, pull = wrap(lambda x: reverse.vjp(fun, x))(x)
    expected = jax.vjp(fun, x)[1](x)[0]
    np.testing.assert_allclose(pull(x)[0], expected, rtol=1e-14)
    fitted = reverse.checkpoint(fun, bytes=24)
    np.testing.assert_allclose(wrap(lambda x: reverse.vjp(fitted, x)[1](x)[0])(x), expected, rtol=1e-14)


def test_pullback_keeps_a_mask():
    def fun(x, y):
        return jnp.where(x * y > 0.5, jnp.sin(y) * 3, 0.0)

    pullback = jax.jit(lambda x, y: reverse.vjp(functools.partial(fun, x), y)[1])(INPUTS, INPUTS)
    assert sorted(str(x.dtype) for x in jax.tree.leaves(pullback)) == ["bool", "float64"]


def test_pullback_is_a_pytree_of_one_structure():
    """A loop may carry it, and leaves of the same pullback are the same each time."""

    def carried(w, x):
        pullback = reverse.vjp(_network, w, x)[1]
        assert jax.tree.structure(pullback) == jax.tree.structure(jax.tree.map(lambda leaf: leaf, pullback))
        return lax.scan(lambda p, _: (p, None), pullback, None, 2)[0](1.0)

    expected = jax.grad(_network, (0, 1))(WEIGHTS, INPUTS)
    chex.assert_trees_all_close(jax.jit(carried)(WEIGHTS, INPUTS), expected, rtol=1e3 * EPS, atol=1e2 * EPS)


def test_long_chains_are_taken_back():
    """Each value from the one before it: no recursion over the chain."""

    def powers(x):
        for _ in range(1500):
            x = lax.mul(x, x)
        return x

    pullback = jax.jit(lambda x: reverse.vjp(powers, x)[1])(1.0)
    assert len(jax.tree.leaves(pullback)) == 1
    assert pullback(0.0)[0] == 0


def test_branches_share_what_is_at_hand():
    def fun(x, flag):
        return jnp.sum(lax.cond(flag, lambda y: jnp.square(2 * y + 1) * (2 * y), jnp.sin, x))

    jaxpr = jax.make_jaxpr(lambda x, flag: reverse.vjp(fun, x, flag)[1])(INPUTS, True)
    assert sum(aval.size for aval in jaxpr.out_avals) <= INPUTS.size + 1  # x and the index


ROOM = (0, 2_000, 5_000, 20_000, 10**6)


def test_checkpoint_fits_in_its_bytes():
    expected = jax.grad(_network, (0, 1))(WEIGHTS, INPUTS)
    used = []
    for room in ROOM:
        fun = reverse.checkpoint(_network, bytes=room)
        for vjp in (reverse.vjp, jax.vjp):
            pullback, kept = _kept(vjp, fun)
            assert kept <= room, (room, kept)
            chex.assert_trees_all_close(pullback(1.0), expected, rtol=1e3 * EPS, atol=1e2 * EPS)
        used.append(kept)
    assert used == sorted(used)
    assert used[0] == 0
    assert used[2] > 0.5 * ROOM[2]


def test_checkpoint_keeps_what_is_expensive():
    """With room for one of two, the product of matrices is kept and the sum is computed again."""

    def fun(weights, x):
        return jnp.sum(jnp.sin(x @ weights[0]) + jnp.sin(x + 1))

    pullback, kept = _kept(reverse.vjp, reverse.checkpoint(fun, bytes=INPUTS.nbytes))
    assert kept == INPUTS.nbytes
    product = INPUTS @ WEIGHTS[0]
    assert any(x.shape == product.shape and np.allclose(x, product) for x in jax.tree.leaves(pullback))


def test_checkpoint_with_bytes_and_a_policy():
    """The policy says what may be kept, the bytes how much of it."""
    fun = functools.partial(reverse.checkpoint, _network)
    dots, nothing = jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.nothing_saveable
    one = INPUTS.nbytes
    assert _kept(reverse.vjp, fun(bytes=10**6, policy=nothing))[1] == 0
    assert _kept(reverse.vjp, fun(bytes=10**6, policy=dots))[1] == len(WEIGHTS) * one
    assert _kept(reverse.vjp, fun(bytes=2 * one, policy=dots))[1] == 2 * one


def test_checkpoint_with_bytes_under_transformations():
    fun = reverse.checkpoint(lambda x, n, *, scale: jnp.sum(jnp.sin(scale * x) ** n), bytes=300, static_argnums=1)
    plain = lambda x: jnp.sum(jnp.sin(3.0 * x) ** 2)
    x = INPUTS[0]
    ours = lambda x: fun(x, 2, scale=3.0)
    pairs = [
        (reverse.hessian(ours)(x), jax.hessian(plain)(x)),
        (jax.jvp(reverse.grad(ours), (x,), (x,)), jax.jvp(jax.grad(plain), (x,), (x,))),
        (jax.vmap(reverse.grad(ours))(INPUTS), jax.vmap(jax.grad(plain))(INPUTS)),
        (reverse.grad(lambda k: fun(x, 2, scale=k))(3.0), jax.grad(lambda k: jnp.sum(jnp.sin(k * x) ** 2))(3.0)),
    ]
    for got, expected in pairs:
        chex.assert_trees_all_close(got, expected, rtol=1e3 * EPS, atol=1e3 * EPS)


@pytest.mark.parametrize(
    ("fun", "options", "kind", "words"),
    [
        (jnp.sin, {"bytes": -1}, ValueError, "bytes: expected an integer of at least 0, got -1"),
        (jnp.sin, {"bytes": 1.5}, TypeError, "bytes: expected an integer, got 1.5"),
        (jnp.sin, {"bytes": True}, TypeError, "bytes: expected an integer, got True"),
        (jnp.sin, {"bytes": 8, "policy": "dots"}, TypeError, "policy: expected a function, got 'dots'"),
        (3, {"bytes": 8}, TypeError, "Expected a callable value, got 3"),
    ],
)
def test_checkpoint_refuses(fun, options, kind, words):
    with pytest.raises(kind, match=words):
        reverse.checkpoint(fun, **options)


def test_checkpoint_refuses_places_that_are_none():
    with pytest.raises(ValueError, match="static_argnums: expected places of 1 arguments, got 2"):
        reverse.checkpoint(jnp.sin, bytes=8, static_argnums=2)(1.0)


def test_costs_are_of_primitives_that_exist():
    names = {primitive.name for primitive in PRIMITIVES} | {"iota", "copy", "split", "stop_gradient"}
    unknown = set(costs.COSTS) - names
    assert unknown <= {"expand_dims", "erf_inv"}, unknown


def _flops(fun, *args):
    return jax.jit(fun).lower(*args).compile().cost_analysis()["flops"]


def test_product_costs_four_of_its_values():
    """No level of the tree of pairs is computed twice, however many factors there are."""

    def at_most_four(count):
        x = jnp.ones(count)
        assert _flops(reverse.value_and_grad(jnp.prod), x) <= 4.01 * _flops(jnp.prod, x)

    every([250, 1000, 1023, 100_000], at_most_four)


def test_running_products_and_log_sums_cost_no_more():
    def no_more(fun):
        x = _numbers(3, 8, 300)
        loss = lambda x: jnp.sum(jnp.sin(fun(x, axis=1)))
        assert _flops(reverse.value_and_grad(loss), x) <= _flops(jax.value_and_grad(loss), x)

    every([lax.cumprod, lax.cumlogsumexp], no_more)


@pytest.mark.parametrize("reverse_axis", [False, True])
@pytest.mark.sampled(3)
def test_running_log_sums_at_ties_and_infinities(reverse_axis):
    """Smooth where two entries tie, in both orders; where the first are -inf, the others are as without them."""

    def fun(x):
        return jnp.sum(jnp.sin(lax.cumlogsumexp(x, reverse=reverse_axis)))

    def by_hand(x):
        x = x[::-1] if reverse_axis else x
        return sum(jnp.sin(jnp.log(jnp.sum(jnp.exp(x[: i + 1])))) for i in range(x.shape[0]))

    x = jnp.array([0.5, 0.5, 0.5, -1.0, -1.0])
    chex.assert_trees_all_close(reverse.hessian(fun)(x), jax.hessian(by_hand)(x), rtol=1e3 * EPS, atol=1e2 * EPS)
    chex.assert_trees_all_close(
        jax.jacfwd(reverse.grad(fun))(x), jax.hessian(by_hand)(x), rtol=1e3 * EPS, atol=1e2 * EPS
    )
    empty = jnp.full(2, -jnp.inf)
    value = lambda x: lax.cumlogsumexp(
        jnp.concatenate([x, empty] if reverse_axis else [empty, x]), reverse=reverse_axis
    )
    ours = reverse.vjp(value, x)[0]
    np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(value(x)))
    np.testing.assert_allclose(ours[jnp.isfinite(ours)], lax.cumlogsumexp(x, reverse=reverse_axis), rtol=10 * EPS)


def test_softmax_and_norm_by_hand_hold_no_more():
    """The quotient's denominator, one for a row, is divided by after the sum."""

    def softmax(x):
        shifted = jnp.exp(x - lax.stop_gradient(jnp.max(x, axis=1, keepdims=True)))
        return shifted / jnp.sum(shifted, axis=1, keepdims=True)

    def norm(x):
        centred = x - jnp.mean(x, axis=1, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-5)

    def no_more(fun):
        x, target = _numbers(1, 64, 64), _numbers(2, 64, 64)
        loss = lambda x: jnp.mean((fun(x) - target) ** 2)
        ours, theirs = (jax.jit(g(loss)).lower(x).compile() for g in (reverse.value_and_grad, jax.value_and_grad))
        assert ours.cost_analysis()["flops"] <= theirs.cost_analysis()["flops"]
        temporary = [c.memory_analysis().temp_size_in_bytes for c in (ours, theirs)]
        assert temporary[0] <= 1.02 * temporary[1]

    every([softmax, norm], no_more)


def test_shard_map_returns_no_residual_twice():
    """What the backward pass reads of inputs and outputs is those; the sine alone is returned besides."""
    mesh = jax.make_mesh((1,), ("i",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))

    @jax.shard_map(mesh=mesh, in_specs=jax.P("i"), out_specs=jax.P("i"))
    def layer(x, w):
        return jnp.exp(jnp.sin(x) * w)

    def pulled(x, w, ct):
        return reverse.vjp(layer, x, w)[1](ct)

    program = jax.make_jaxpr(pulled)(*[jnp.ones((4, 2))] * 3)
    forward, backward = [eqn for eqn in equations(program) if eqn.primitive.name == "shard_map"]
    assert len(forward.outvars) == 2
    assert len(backward.invars) == 5  # x, w, sin x, y and its cotangent


def test_policies_within_a_shard_map():
    """Of what the devices compute the policy's choice is kept and nothing else, as by JAX: the products, or names."""
    mesh = jax.make_mesh((1,), ("i",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    x, w = jnp.linspace(0.1, 1.0, 12).reshape(4, 3), jnp.linspace(-0.4, 0.5, 9).reshape(3, 3)
    policies = jax.checkpoint_policies

    def shard(x, w):
        y = checkpoint_name(jnp.exp(jnp.sin(x @ w) * 0.5), "y")
        scale = jnp.exp(jax.lax.psum(jnp.sum(y), "i") / 20)
        return jnp.cos(y @ w) * scale, y

    def counts(differentiate, check_vma, policy):
        layer = jax.shard_map(
            shard, mesh=mesh, in_specs=(jax.P("i"), jax.P()), out_specs=(jax.P("i"), jax.P("i")), check_vma=check_vma
        )
        run = jax.checkpoint(lambda x, w: jnp.sum(jax.jit(layer)(x, w)[0] ** 2), policy=policy)
        gradient = jax.jit(differentiate(run, (0, 1)))
        compiled = gradient.lower(x, w).compile()
        text = compiled.as_text()
        return gradient(x, w), [len(re.findall(rf" {name}\(", text)) for name in ("dot", "exponential")]

    for check_vma in (True, False):
        for policy in (
            policies.everything_saveable,
            policies.dots_saveable,
            policies.nothing_saveable,
            policies.save_only_these_names("y"),
        ):
            (ours, found), (theirs, expected) = (counts(d, check_vma, policy) for d in (reverse.grad, jax.grad))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)
            assert all(a <= b for a, b in zip(found, expected)), (check_vma, policy, found, expected)


def test_numbers_are_no_residuals_of_compiled_programs():
    """They are part of the backward program, as they are of the forward one."""
    mesh = jax.make_mesh((1,), ("i",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))

    def tripled(x):
        return jax.jit(lambda x: 3.0 * x)(x)

    mapped = jax.shard_map(tripled, mesh=mesh, in_specs=jax.P(), out_specs=jax.P())
    [backward] = equations(jax.make_jaxpr(reverse.vjp(mapped, jnp.ones(2))[1])(jnp.ones(2)))
    assert len(backward.invars) == 1


def test_an_outer_policy_within_an_inner_checkpoint():
    """What an outer checkpoint's policy saves of an inner one's program is kept, and nothing of it is computed more
    often than by JAX."""
    policies = jax.checkpoint_policies
    x, w = jnp.linspace(0.1, 1.0, 4), jnp.eye(4) / 2 + 0.1

    def body(x, w):
        y = checkpoint_name(jnp.sin(x @ w), "y")
        return jnp.cos(jax.nn.softmax(jnp.exp(y) @ w) @ w)

    def straight(inner, outer):
        part = jax.checkpoint(body, policy=inner)
        return jax.checkpoint(lambda x, w: jnp.sin(part(jnp.tanh(x @ w), w) @ w), policy=outer)

    def looped(inner, outer):
        part = jax.checkpoint(body, policy=inner)
        step = lambda x, _: (jnp.tanh(part(x, x[:, None] * w)), None)
        return jax.checkpoint(lambda x, w: lax.scan(step, x @ w, None, length=3)[0], policy=outer)

    def found(differentiate, fun):
        loss = lambda x, w: jnp.sum(fun(x, w) ** 2)
        gradient = jax.jit(differentiate.grad(loss, (0, 1)))
        text = gradient.lower(x, w).compile().as_text()
        counts = [len(re.findall(rf" {name}\(", text)) for name in ("dot", "exponential", "sine")]
        kept = jax.tree.leaves(differentiate.vjp(loss, x, w)[1])
        return gradient(x, w), counts, sum(r.size for r in kept)

    for program, inner, outer in (
        (straight, None, policies.dots_saveable),
        (straight, policies.save_only_these_names("y"), policies.everything_saveable),
        (straight, policies.dots_saveable, policies.save_only_these_names("y")),
        (looped, None, policies.save_only_these_names("y")),
    ):
        (ours, counts, kept), (theirs, at_most, expected) = (found(d, program(inner, outer)) for d in (reverse, jax))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)
        assert all(a <= b for a, b in zip(counts, at_most)), (program.__name__, outer, counts, at_most)
        assert kept <= expected, (program.__name__, outer)


COMPARISONS = {  # a step, and the bytes that it keeps of each entry of x @ w, besides the state
    "a maximum with a number": (lambda z, x: jnp.maximum(z, 0.0), 2),
    "a maximum": (lambda z, x: jnp.maximum(z, jnp.sin(x)), 3),
    "a minimum of what is kept anyway": (lambda z, x: jnp.minimum(z, 0.5) * z * 0.01, 4),
    "an absolute value": (lambda z, x: jnp.abs(z), 1),
    "clamped between numbers": (lambda z, x: lax.clamp(np.float32(-1), z, np.float32(1)), 1),
    "clipped, in two steps": (lambda z, x: jnp.clip(z, -1.0, 1.0), 4),
    "the largest entries": (lambda z, x: z * 0 + jnp.max(z, 1)[:, None], 1),
}


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.sampled(3)
def test_masks_are_kept_as_booleans(name):
    """What a derivative only compares is kept as booleans from step to step, unless that is no less."""
    step, per_entry = COMPARISONS[name]
    length, shape = 5, (16, 32)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        w = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32) / 3
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)

        def gradient(differentiate):
            def loss(x, w):
                return jnp.sum(lax.scan(lambda x, _: (step(x @ w, x), None), x, None, length)[0] ** 2)

            return differentiate.grad(loss, (0, 1))

        ours, theirs = jax.jit(lambda x, w: (gradient(reverse)(x, w), gradient(jax)(x, w)))(x, w)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)
        forward = next(e for e in equations(jax.make_jaxpr(gradient(reverse))(x, w)) if e.primitive.name == "scan")
        stacks = [v.aval for v in forward.outvars if v.aval.shape[:1] == (length,)]
    entries = length * shape[0] * shape[1]
    states = 4 * entries
    assert (sum(s.size * s.dtype.itemsize for s in stacks) - states) // entries == per_entry
