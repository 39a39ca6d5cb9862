"""`pullback.with_refs`: cotangents that are added to mutable arrays, and primals that are such."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse
from functional_dl.jaxprs import all_equations, equations

AD = jax.ad


def product(x, y):
    return jnp.sum(jnp.sin(x["a"]) * y)


PRIMALS = ({"a": jnp.array([0.3, -1.2, 2.0])}, jnp.array([1.0, 2.0, 3.0]))
EXPECTED = (jnp.cos(PRIMALS[0]["a"]) * PRIMALS[1], jnp.sin(PRIMALS[0]["a"]))


def test_each_cotangent_goes_where_it_is_wanted():
    _, pullback = reverse.vjp(product, *PRIMALS)
    ref = jax.new_ref(jnp.ones(3))
    first, second = pullback.with_refs({"a": ref}, AD.GradValue())(2.0)
    assert isinstance(first["a"], type(AD.GradRef()))
    np.testing.assert_allclose(ref[...], 1 + 2 * EXPECTED[0], rtol=1e-14)
    np.testing.assert_allclose(second, 2 * EXPECTED[1], rtol=1e-14)
    first, second = pullback.with_refs({"a": AD.DontWant()}, ref)(1.0)
    assert isinstance(first["a"], type(AD.DidntWant()))
    assert isinstance(second, type(AD.GradRef()))
    np.testing.assert_allclose(ref[...], 1 + 2 * EXPECTED[0] + EXPECTED[1], rtol=1e-14)


def test_equal_to_jax():
    left = []
    for vjp in (jax.vjp, reverse.vjp):
        _, pullback = vjp(product, *PRIMALS)
        ref = jax.new_ref(jnp.zeros(3))
        for ct in (1.0, -3.0):
            pullback.with_refs({"a": AD.DontWant()}, ref)(ct)
        left.append(ref[...])
    np.testing.assert_allclose(*left, rtol=1e-14)


def test_micro_batches_accumulate_in_a_scan_under_jit():
    def mean_loss(w, x):
        return jnp.mean(jnp.tanh(x @ w) ** 2)

    @jax.jit
    def total(w, batches):
        ref = jax.new_ref(jnp.zeros_like(w))

        def step(carry, x):
            _, pullback = reverse.vjp(mean_loss, w, x)
            pullback.with_refs(ref, AD.DontWant())(1.0)
            return carry, None

        jax.lax.scan(step, None, batches)
        return ref[...] / len(batches)

    batches = jax.random.normal(jax.random.key(0), (4, 5, 3))
    w = jnp.array([0.2, -0.4, 0.9])
    np.testing.assert_allclose(total(w, batches), reverse.grad(mean_loss)(w, batches.reshape(-1, 3)), rtol=1e-13)


def test_a_pullback_with_places_is_a_pytree():
    _, pullback = reverse.vjp(product, *PRIMALS)
    placed = pullback.with_refs({"a": AD.DontWant()}, AD.GradValue())
    _, second = jax.jit(lambda p, ct: p(ct))(placed, 2.0)
    np.testing.assert_allclose(second, 2 * EXPECTED[1], rtol=1e-14)
    again = jax.tree.unflatten(jax.tree.structure(pullback), jax.tree.leaves(pullback))
    np.testing.assert_allclose(again(1.0)[1], EXPECTED[1], rtol=1e-14)


def written(ref, y):
    """z = sin(r y), and r becomes r y: dz/dr = y cos(r y)."""
    ref[...] = ref[...] * y
    return jnp.sin(ref[...])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_a_primal_that_is_a_mutable_array(wrap):
    @wrap
    def run(start):
        ref, bar = jax.new_ref(start), jax.new_ref(jnp.zeros_like(start))
        out, pullback = reverse.vjp(written, ref, 3.0)
        _, of_y = pullback.with_refs(bar, AD.GradValue())(1.0)
        return out, bar[...], of_y, ref[...]

    out, bar, of_y, now = run(jnp.array(2.0))
    np.testing.assert_allclose([out, bar, of_y, now], [np.sin(6.0), 3 * np.cos(6.0), 2 * np.cos(6.0), 6.0], rtol=1e-14)


def test_what_cannot_be_delivered_is_refused():
    _, pullback = reverse.vjp(product, *PRIMALS)
    with pytest.raises(ValueError, match="unexpected tree structure"):
        pullback.with_refs(AD.GradValue(), AD.GradValue())
    with pytest.raises(ValueError, match=r"mutable array of type float64\[3\], got Ref\{float64\[2\]\}"):
        pullback.with_refs({"a": AD.GradValue()}, jax.new_ref(jnp.zeros(2)))
    with pytest.raises(ValueError, match="mutable array"):
        pullback.with_refs({"a": AD.GradValue()}, PRIMALS[1])
    ref = jax.new_ref(jnp.array(2.0))
    with pytest.raises(ValueError, match="with_refs"):
        reverse.vjp(written, ref, 3.0)[1](1.0)
    with pytest.raises(ValueError, match="with_refs"):
        reverse.grad(written)(ref, 3.0)
    with pytest.raises(ValueError, match=r"with_refs: expected jax\.ad\.DontWant"):
        reverse.vjp(written, ref, 3.0)[1].with_refs(AD.GradValue(), AD.GradValue())


def test_nothing_is_computed_for_a_cotangent_that_is_not_wanted():
    _, pullback = reverse.vjp(lambda x, y: jnp.sin(x) * y, *[jnp.arange(3.0)] * 2)
    ct = jnp.ones(3)
    program = jax.make_jaxpr(lambda: pullback.with_refs(AD.DontWant(), AD.GradValue())(ct)[1])()
    assert [eqn.primitive.name for eqn in equations(program)] == ["mul"]


def affine(x, params):
    return jnp.sin(2.0 * (x @ params["w"]) + params["b"][None])


AFFINE = (jnp.arange(6.0).reshape(2, 3), {"w": jnp.arange(12.0).reshape(3, 4) / 7, "b": jnp.ones(4)})


def test_primals_that_the_pullback_reads_may_be_taken_out_and_put_back():
    y, pullback = reverse.vjp(affine, *AFFINE)
    expected = pullback(jnp.ones_like(y))
    x, params = pullback.args_res
    assert x is AFFINE[0]
    assert params["w"] is AFFINE[1]["w"]
    assert isinstance(params["b"], reverse.NotNeeded)
    assert pullback.opaque_residuals
    assert not any(r is params["w"] for r in jax.tree.leaves(pullback.opaque_residuals))
    pullback.args_res[1] = None
    with pytest.raises(ValueError, match="args_res"):
        pullback(jnp.ones_like(y))
    pullback = jax.jit(lambda p: p)(pullback)  # it stays taken apart
    pullback.args_res[1] = AFFINE[1]
    jax.tree.map(np.testing.assert_array_equal, pullback(jnp.ones_like(y)), expected)


def test_primals_of_a_compiled_program_are_the_residuals():
    """A loop outside jit runs compiled; what its backward pass reads of the primals is the primals."""
    weight, rows = jnp.full((3, 3), 0.3), jnp.ones((2, 3))
    loop = lambda weight, rows: jax.lax.scan(lambda c, x: (jnp.sin(weight @ c) * x, None), jnp.ones(3), rows)[0]
    _, pullback = reverse.vjp(loop, weight, rows)
    assert pullback.args_res[0] is weight
    assert pullback.args_res[1] is rows


def test_a_place_for_integers_may_hold_anything():
    total = jax.new_ref(jnp.zeros(3))
    _, pullback = reverse.vjp(lambda x, i: x[i] ** 2, jnp.arange(3.0), 2)
    assert isinstance(pullback.with_refs(total, object())(1.0)[1], AD.DidntWant)
    np.testing.assert_array_equal(total[...], [0.0, 0.0, 4.0])


def test_a_copy_has_a_cotangent_of_its_own():
    ct = jnp.ones(3)
    [bar] = reverse.vjp(lambda x: jnp.array(x, copy=True), jnp.ones(3))[1](ct)
    assert bar.unsafe_buffer_pointer() != ct.unsafe_buffer_pointer()
    np.testing.assert_array_equal(bar, ct)


def test_a_pullback_leaves_a_jit_without_a_primal():
    @jax.jit
    def forward(*primals):
        y, pullback = reverse.vjp(affine, *primals)
        pullback.args_res[0] = None
        return y, pullback

    y, pullback = forward(*AFFINE)
    assert not any(leaf.shape == AFFINE[0].shape for leaf in jax.tree.leaves(pullback))
    pullback.args_res[0] = AFFINE[0]
    for bar, expected in zip(jax.tree.leaves(pullback(y)), jax.tree.leaves(jax.vjp(affine, *AFFINE)[1](y))):
        np.testing.assert_allclose(bar, expected, rtol=1e-12)


def rows(w, i):
    """Reads of w at a place, of a part, whole, twice, and within a compiled function."""
    long = jax.jit(lambda w: sum(jnp.sin(w[i + k]) * w[0] for k in range(3)) + jnp.tanh(w[1] * w[2]) + w[:2, ::2].sum())
    return jnp.sum(long(w) * w[i]) + jnp.sum(w[1:3, 1:] ** 2) + w[5, 1] + jnp.sum(jnp.cos(w)) + jnp.sum(long(w))


W = jnp.linspace(0.1, 1.3, 18).reshape(6, 3)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_cotangents_of_parts_are_added_in_place(wrap):
    expected = jax.grad(rows)(W, 2)

    @wrap
    def run(w, i):
        ref = jax.new_ref(jnp.ones_like(w))
        pullback = reverse.vjp(rows, w, i)[1]
        pullback.with_refs(ref, AD.DontWant())(1.0)
        pullback.with_refs(ref, AD.DontWant())(2.0)
        return ref[...]

    np.testing.assert_allclose(run(W, 2), 1 + 3 * expected, rtol=1e-13)


def test_places_beyond_the_end_are_moved_inside_as_forward():
    def block(w, i):
        return jax.lax.dynamic_slice(w, (i, 0), (1, 3))

    for i in (-3, 0, 5, 9):
        ref = jax.new_ref(jnp.zeros_like(W))
        jax.jit(lambda i: reverse.vjp(block, W, i)[1].with_refs(ref, AD.DontWant())(jnp.ones((1, 3))))(i)
        np.testing.assert_array_equal(ref[...], jax.grad(lambda w: jnp.sum(block(w, i)))(W))


def test_no_zeros_are_made_for_a_part():
    def long(w, i):
        return jnp.sum(jnp.sin(jnp.exp(jnp.cos(w[i]) * w[1]))) * 2.0

    ref = jax.new_ref(jnp.zeros_like(W))
    for fun in (long, jax.jit(long)):
        program = jax.make_jaxpr(lambda i: reverse.vjp(fun, W, i)[1].with_refs(ref, AD.DontWant())(1.0))(2)
        made = [eqn for eqn in all_equations(program) if any(v.aval.shape == W.shape for v in eqn.outvars)]
        assert not made
        assert str(program).count("+=") == 2


def test_one_array_for_two_cotangents_of_a_compiled_function():
    def product(x, y):
        for _ in range(9):
            y = jnp.sin(x * y)
        return jnp.sum(y)

    @jax.jit
    def run(x, y):
        ref = jax.new_ref(jnp.zeros_like(x))
        reverse.vjp(jax.jit(product), x, y)[1].with_refs(ref, ref)(1.0)
        both = jax.new_ref(jnp.zeros_like(x))
        reverse.vjp(lambda x: jax.jit(product)(x, x), x)[1].with_refs(both)(1.0)
        return ref[...], both[...]

    x, y = PRIMALS[1], PRIMALS[0]["a"]
    ref, both = run(x, y)
    np.testing.assert_allclose(ref, sum(jax.grad(product, (0, 1))(x, y)), rtol=1e-13)
    np.testing.assert_allclose(both, jax.grad(lambda x: product(x, x))(x), rtol=1e-13)


def test_blocks_of_some_entries_are_added_where_they_lie():
    """Single entries and rows are added at their place; of blocks of some entries the place may be moved inside."""
    x = jnp.linspace(0.2, 1.4, 20).reshape(4, 5)

    @jax.jit
    def total(x, i):
        def fun(x):
            one, row = lax.dynamic_slice(x, (i, i), (1, 1)), lax.dynamic_slice(x, (i, 0), (1, 5))
            return jnp.sin(one).sum() + jnp.exp(row).sum() + (lax.dynamic_slice(x, (i, i + 1), (2, 3)) ** 3).sum()

        ref = jax.new_ref(jnp.ones_like(x))
        reverse.vjp(fun, x)[1].with_refs(ref)(1.0)
        return ref[...] - 1.0, jax.grad(fun)(x)

    for i in (0, 2, 3, 9, -1):
        np.testing.assert_allclose(*total(x, i), rtol=1e-12, atol=1e-14)
