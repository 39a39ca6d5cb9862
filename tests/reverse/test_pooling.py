"""Pooling and folds as they are written in models, ties, dilations that JAX refuses, and clear errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse

IMAGE = np.round(np.random.default_rng(0).uniform(-2, 2, (2, 6, 5, 3)))  # rounded: full of ties


def pool(x, initial, reducer, window, strides, padding):
    return lax.reduce_window(x, initial, reducer, (1, *window, 1), (1, *strides, 1), padding)


def average(x, window, strides, padding):
    count = pool(jnp.ones_like(x), 0.0, lax.add, window, strides, padding)
    return pool(x, 0.0, lax.add, window, strides, padding) / count


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1), (2, 3)])  # the last: windows side by side
@pytest.mark.parametrize("kind", ["max", "min", "average"])
@pytest.mark.sampled(3)
def test_pooling_equals_jax_even_where_entries_tie(kind, strides, padding):
    def loss(x):
        if kind == "average":
            y = average(x, (2, 3), strides, padding)
        else:
            initial, reducer = (-jnp.inf, lax.max) if kind == "max" else (jnp.inf, lax.min)
            y = pool(x, initial, reducer, (2, 3), strides, padding)
        return jnp.sum(jnp.sin(y) * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    x = jnp.asarray(IMAGE)
    ours, theirs = (jax.jit(grad(loss)).lower(x).compile() for grad in (reverse.grad, jax.grad))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-13, atol=1e-15)
    assert ours.cost_analysis()["flops"] <= theirs.cost_analysis()["flops"]
    if (strides, padding) == ((2, 2), "SAME"):
        np.testing.assert_allclose(reverse.grad(loss)(x), theirs(x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2,), "window_dilation": (2,), "padding": [(2, 1)]},
        {"window_strides": (2,), "base_dilation": (2,), "padding": [(1, 2)]},
        {"window_strides": (1,), "padding": [(-1, 2)]},
    ],
    ids=["window dilation", "base dilation", "negative padding"],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_dilated_and_cut_extrema_against_slices(options, sign):
    """jax.grad refuses dilations; the same windows by slices give the same derivative."""
    initial, reducer, best = (-np.inf, lax.max, jnp.maximum) if sign > 0 else (np.inf, lax.min, jnp.minimum)
    step, base = options.get("window_dilation", (1,))[0], options.get("base_dilation", (1,))[0]

    def fun(x):
        return lax.reduce_window(x, initial, reducer, (3,), **options)

    def slices(x):
        z = lax.pad(x, x.dtype.type(initial), [(*options["padding"][0], base - 1)])
        count = (z.shape[0] - 2 * step - 1) // options["window_strides"][0] + 1
        last = (count - 1) * options["window_strides"][0] + 1
        a, b, c = (lax.slice(z, (k * step,), (k * step + last,), options["window_strides"]) for k in range(3))
        return best(best(a, b), c)

    x = jnp.array(np.random.default_rng(1).permutation(9) * 0.25)

    @jax.jit
    def both(x):
        (out, pull), (expected, expected_pull) = reverse.vjp(fun, x), jax.vjp(slices, x)
        ct = jnp.cos(jnp.arange(out.size, dtype=x.dtype))
        return (out, pull(ct)[0]), (expected, expected_pull(ct)[0])

    (out, bar), (expected_out, expected) = both(x)
    np.testing.assert_array_equal(out, expected_out)
    np.testing.assert_allclose(bar, expected, rtol=1e-14)


@pytest.mark.parametrize("reverse_order", [False, True])
@pytest.mark.parametrize("fun", [lax.cummax, lax.cummin], ids=["cummax", "cummin"])
def test_ties_of_running_extrema_are_shared_as_jax_has_them(fun, reverse_order):
    x = jnp.array([1.0, 1.0, 0.0, 1.0, 2.0, 2.0, 2.0, 1.0, 2.0])
    ct = jnp.exp2(jnp.arange(9.0))

    def running(x):
        return fun(x, reverse=reverse_order)

    np.testing.assert_array_equal(reverse.vjp(running, x)[1](ct)[0], jax.vjp(running, x)[1](ct)[0])


def test_cumprod_with_zeros_is_exact():
    x = jnp.array([2.0, 0.0, 3.0, 0.0, 5.0])
    jacobian = reverse.jacrev(lax.cumprod)(x) if hasattr(reverse, "jacrev") else None
    rows = [reverse.vjp(lax.cumprod, x)[1](row)[0] for row in jnp.eye(5)]
    expected = [[1, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 6, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(jnp.stack(rows), expected)
    if jacobian is not None:
        np.testing.assert_array_equal(jacobian, expected)


def test_cumlogsumexp_is_finite_at_masks_and_large_numbers():
    """jax.grad gives nan after two masked entries; the derivative past them is finite and unique."""
    x = jnp.array([-jnp.inf, -jnp.inf, 0.0, 1000.0, -1000.0])
    bar = reverse.grad(lambda x: lax.cumlogsumexp(x)[-1])(x)
    np.testing.assert_array_equal(bar, [0.0, 0.0, 0.0, 1.0, 0.0])


def test_initial_value_that_is_differentiated_is_refused():
    product = lambda a, b: b * a
    for fun in (
        lambda i: lax.reduce(jnp.ones(3), i, product, (0,)),
        lambda i: jnp.sum(lax.reduce_window(jnp.ones(3), i, product, (2,), (1,), "VALID")),
    ):
        with pytest.raises(NotImplementedError, match="init_value"):
            reverse.grad(fun)(1.0)


def test_ties_of_top_k_and_sort_as_jax_has_them():
    x = jnp.array([1.0, 3.0, 3.0, 2.0, 3.0])
    ct = jnp.array([1.0, 10.0])
    for fun in (lambda x: lax.top_k(x, 2)[0], lambda x: jnp.sort(x)[:2], lambda x: jnp.median(x) * ct):
        np.testing.assert_array_equal(reverse.vjp(fun, x)[1](ct)[0], jax.vjp(fun, x)[1](ct)[0])
