"""Every activation of the table: its formula at 120 digits, JAX's derivative, its kinks' conventions."""

import functools

import chex
import formulas
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every import every

from functional_dl import activations
from functional_dl.activations import ACTIVATIONS, Kink

ELEMENTWISE = [name for name, entry in ACTIVATIONS.items() if entry.elementwise]
MIXING = [name for name, entry in ACTIVATIONS.items() if not entry.elementwise]
DTYPES = (jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16)
SIZES = (1e-30, 1e-8, 0.3, 0.75, 1.0, 2.5, 3.0, 6.0, 30.0, 700.0, 1e4)
POINTS = (0.0, -0.0, *SIZES, *(-z for z in SIZES))
VECTORS = (
    [0.0, 0.0, 0.0],
    [1.0, -2.0, 0.5, 3.0],
    [30.0, -30.0, 0.0],
    [-700.0, 700.0, 699.0],
    [1e4, 1e4, -1e4],
    [5.0],
)
EPS, TINY = np.finfo(np.float64).eps, np.finfo(np.float64).tiny


def is_kink(entry, z):
    return any(z == kink.location for kink in entry.kinks)


def exact_derivatives(entry, z):
    """f(z), f'(z), f''(z) of the formula; f'' as 0 where a piecewise formula jumps within the differences."""
    f = formulas.function(entry.formula, "z")
    return float(f(z)), float(formulas.derivative(f, z)), float(formulas.derivative(f, z, 2))


# An argument rounded once moves f by eps |z f'|: the problem's own condition, which no code can beat.
# What underflows is flushed to 0, times z^2 at most.
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_value_and_derivative_against_the_formula(name):
    entry = ACTIVATIONS[name]
    z = jnp.array(POINTS)
    found = jax.jit(lambda z: (entry.fun(z), entry.prime(z), jax.vmap(jax.grad(entry.fun))(z)))(z)
    for z, value, prime, grad in zip(POINTS, *map(np.asarray, found), strict=True):
        flushed = 4 * TINY * (1 + abs(z)) ** 2
        if is_kink(entry, z):
            exact_value = float(formulas.function(entry.formula, "z")(z))
            assert abs(value - exact_value) <= 4 * EPS * abs(exact_value)
            continue
        exact_value, first, second = exact_derivatives(entry, z)
        assert abs(value - exact_value) <= 8 * EPS * (abs(exact_value) + abs(z * first)) + flushed
        assert abs(prime - first) <= 8 * EPS * (abs(first) + abs(z * second)) + flushed
        # jax.grad takes y (1 - y) for a gate y: an ulp of 1 off until y rounds to 1 at 37, times z in z y;
        # the hand derivative is held to relative accuracy above.
        assert abs(grad - first) <= 8 * EPS * (1 + abs(z * second)) + EPS * min(abs(z), 37.0)


@pytest.mark.parametrize("z", VECTORS, ids=str)
@pytest.mark.parametrize("name", MIXING)
def test_mixing_value_and_jacobian_against_the_formula(name, z):
    entry = ACTIVATIONS[name]
    f = formulas.function(entry.formula, "z")
    tolerance = 8 * EPS * (1 + max(z) - min(z))
    value = np.array([float(v) for v in f(z)])
    out, prime, reverse = jax.jit(lambda z: (entry.fun(z), entry.prime(z), jax.jacrev(entry.fun)(z)))(jnp.array(z))
    assert np.all(np.abs(out - value) <= tolerance * np.abs(value) + TINY)
    jacobian = np.array(
        [[float(formulas.partial(lambda v: f(v)[i], z, j)) for j in range(len(z))] for i in range(len(z))]
    )
    np.testing.assert_allclose(prime, jacobian, rtol=0, atol=tolerance)
    np.testing.assert_allclose(reverse, jacobian, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.sampled(3)
def test_every_dtype_keeps_its_dtype_and_shape_and_its_accuracy(name):
    entry = ACTIVATIONS[name]
    points = [jnp.array([[-20.0, -4.5, -1.25, -0.5], [0.5, 1.5, 4.5, 20.0]], dtype) for dtype in DTYPES]

    def everything(points):
        for z in points:
            wide = z.astype(jnp.float64)
            for fun in (entry.fun, entry.prime):
                slope = jax.vmap(jax.vmap(jax.grad(fun)))(wide) if entry.elementwise else None
                yield fun(z), fun(wide), slope

    def judge(case):
        z, fun, order, (out, expected, slope) = case
        eps = float(jnp.finfo(z.dtype).eps)
        assert out.dtype == z.dtype
        assert out.shape == (z.shape if entry.elementwise or not order else (*z.shape, 4))
        assert jax.eval_shape(fun, jnp.zeros((0, 3), z.dtype)).shape[:2] == (0, 3)
        if not entry.elementwise:
            spread = 24.5  # largest difference of two logits, the condition of a softmax
            assert np.all(np.abs(out.astype(np.float64) - expected) <= 4 * eps * (spread + np.abs(expected)))
            return
        condition = np.abs(z.astype(np.float64) * slope)
        tolerance = 8 * eps * (np.abs(expected) + condition) + 8 * float(jnp.finfo(z.dtype).tiny)
        assert np.all(np.abs(out.astype(np.float64) - expected) <= tolerance)

    places = [(np.asarray(z), fun, order) for z in points for order, fun in enumerate((entry.fun, entry.prime))]
    found = jax.device_get(jax.jit(lambda points: list(everything(points)))(points))
    every(
        [(*place, figures) for place, figures in zip(places, found, strict=True)],
        judge,
        name=lambda case: f"{case[0].dtype}, derivative of order {case[2]}",
    )


def all_three(entry, z):
    out, pullback = jax.vjp(entry.fun, z)
    return out, entry.prime(z), pullback(jnp.ones_like(z))[0]


def extremes(dtype):
    largest = float(jnp.finfo(dtype).max)
    sizes = [
        largest,
        largest / 2,
        largest**0.5,
        largest ** (1 / 3),
        100.0,
        40.0,
        12.0,
        float(jnp.finfo(dtype).tiny),
    ]
    return jnp.array([0.0, -0.0, *sizes, *(-s for s in sizes)], dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.sampled(3)
def test_no_finite_input_gives_nan(name):
    points = [extremes(dtype) for dtype in DTYPES]
    found = jax.jit(lambda points: [all_three(ACTIVATIONS[name], z) for z in points])(points)
    for z, outs in zip(points, found, strict=True):
        for what, out in zip(("value", "prime", "jax's derivative"), outs, strict=True):
            assert not np.isnan(out).any(), f"{z.dtype}: {what}"


def test_nan_stays_nan():
    found = jax.jit(lambda z: {name: entry.fun(z) for name, entry in ACTIVATIONS.items()})(jnp.array([jnp.nan]))

    def stays(name):
        assert np.isnan(found[name]).all()

    every(found, stays)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.sampled(4)
def test_jit_vmap_and_grad_agree(name):
    entry = ACTIVATIONS[name]
    z, ct = (jax.random.normal(jax.random.key(seed), (5, 4)) for seed in (1, 2))

    @jax.jit
    def compiled(z, ct):
        values = [(fun(z), jax.vmap(fun)(z)) for fun in (entry.fun, entry.prime)]
        prime = entry.prime(z)
        by_hand = ct * prime if entry.elementwise else jnp.einsum("nij,ni->nj", prime, ct)
        return values, by_hand, jax.vjp(entry.fun, z)[1](ct)[0]

    values, by_hand, expected = compiled(z, ct)
    for fun, (out, mapped) in zip((entry.fun, entry.prime), values, strict=True):
        eager = fun(z)
        np.testing.assert_allclose(out, eager, rtol=4 * EPS, atol=4 * EPS)
        np.testing.assert_allclose(mapped, eager, rtol=4 * EPS, atol=4 * EPS)
    np.testing.assert_allclose(by_hand, expected, rtol=1e-13, atol=1e-14)


class TestVariants(chex.TestCase):
    """What is held to its values elsewhere in compiled programs, operation by operation too."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_extremes(self):
        for name in ("silu", "log_softmax"):
            for out in self.variant(functools.partial(all_three, ACTIVATIONS[name]))(extremes(jnp.float32)):
                assert not np.isnan(out).any(), name


KINKS = [(name, kink) for name, entry in ACTIVATIONS.items() for kink in entry.kinks]


@pytest.mark.parametrize(("name", "kink"), KINKS, ids=lambda v: v if isinstance(v, str) else f"{v.location:g}")
def test_a_kink_has_its_stated_convention(name, kink):
    entry = ACTIVATIONS[name]
    points = [jnp.array(kink.location, dtype) for dtype in DTYPES]

    @jax.jit
    def slopes(points):
        return [(jax.grad(entry.fun)(z), entry.prime(z), jax.grad(getattr(jax.nn, name))(z)) for z in points]

    def judge(case):
        z, (*ours, jaxs) = case
        value = float(jnp.array(kink.value, z.dtype))
        tolerance = 2 * float(jnp.finfo(z.dtype).eps) * abs(kink.value)
        eager = (jax.grad(entry.fun)(z),) if name in ("relu", "elu") else ()
        for taken in (*ours, *eager):
            assert abs(float(taken) - value) <= tolerance
        assert kink.jax is not None
        assert (
            abs(float(jaxs) - kink.jax) <= tolerance + 1e-6 * abs(kink.jax) * (z.dtype != jnp.float64) + 2 * tolerance
        )

    every(zip(points, slopes(points), strict=True), judge, name=lambda case: str(case[0].dtype))


@pytest.mark.parametrize(("name", "kink"), KINKS, ids=lambda v: v if isinstance(v, str) else f"{v.location:g}")
def test_a_kink_has_its_one_sided_derivatives(name, kink):
    f = formulas.function(ACTIVATIONS[name].formula, "z")
    x, h = formulas.exact(kink.location), formulas.mp.mpf(10) ** -40
    assert abs(float((f(x + h) - f(x)) / h) - kink.right) <= 2 * EPS
    assert abs(float((f(x) - f(x - h)) / h) - kink.left) <= 2 * EPS


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_table_lists_every_kink(name):
    f = formulas.function(ACTIVATIONS[name].formula, "z")
    h = formulas.mp.mpf(10) ** -40
    for z in np.arange(-8.0, 8.25, 0.25):
        x = formulas.exact(z)
        jump = float(abs((f(x + h) - f(x)) / h - (f(x) - f(x - h)) / h))
        assert (jump > 1e-9) == is_kink(ACTIVATIONS[name], z)


@pytest.mark.parametrize(("name", "kink"), KINKS, ids=lambda v: v if isinstance(v, str) else f"{v.location:g}")
def test_pytorch_takes_what_the_table_says(name, kink):
    torch = pytest.importorskip("torch")
    names = {"hard_tanh": "hardtanh", "hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish"}
    z = torch.tensor(kink.location, dtype=torch.float64, requires_grad=True)
    getattr(torch.nn.functional, names.get(name, name))(z).backward()
    assert abs(float(z.grad) - kink.pytorch) <= 1e-6


def test_a_convention_outside_clarkes_interval_is_refused():
    with pytest.raises(ValueError, match=r"value: expected a value in Clarke's \[0, 1\], got 2"):
        Kink(0.0, left=0.0, right=1.0, value=2.0)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("gelu", lambda z: jax.nn.gelu(z, approximate=False)), ("gelu_tanh", jax.nn.gelu)]
)
def test_gelu_forms_are_jaxs(ours, theirs):
    z = jnp.linspace(-4.0, 4.0, 33)
    np.testing.assert_allclose(ACTIVATIONS[ours].fun(z), theirs(z), rtol=1e-12, atol=1e-15)


def test_values_are_jax_nns():
    names = [name for name in ACTIVATIONS if hasattr(jax.nn, name) and "gelu" not in name]
    z = jnp.array([[-7.0, -3.0, -0.5, 0.0], [0.25, 1.0, 6.0, 7.0]])
    found = jax.jit(lambda z: {name: (ACTIVATIONS[name].fun(z), getattr(jax.nn, name)(z)) for name in names})(z)

    def judge(name):
        np.testing.assert_allclose(*found[name], rtol=1e-6, atol=1e-15)

    every(names, judge)


@pytest.mark.parametrize(("fun", "prime"), [
    (lambda z: activations.leaky_relu(z, 0.2), lambda z: activations.leaky_relu_prime(z, 0.2)),
    (lambda z: activations.elu(z, 0.5), lambda z: activations.elu_prime(z, 0.5)),
    (lambda z: activations.celu(z, 0.5), lambda z: activations.celu_prime(z, 0.5)),
])  # fmt: skip
def test_parameters_reach_the_derivative(fun, prime):
    for z in (-2.0, -0.3, 0.0, 0.7):
        np.testing.assert_allclose(prime(z), jax.grad(fun)(z), rtol=4 * EPS, atol=4 * EPS)


@pytest.mark.parametrize("fun", [activations.softmax, activations.log_softmax])
def test_softmax_takes_any_axis_and_masks(fun):
    z = jax.random.normal(jax.random.key(0), (3, 4, 2))
    axes = (0, 1, 2, -1, -2)
    ours = jax.jit(lambda z: [fun(z, axis) for axis in axes])(z)
    moved = jax.jit(lambda z: [jnp.moveaxis(fun(jnp.moveaxis(z, axis, -1)), -1, axis) for axis in axes])(z)
    for out, expected in zip(ours, moved, strict=True):
        np.testing.assert_allclose(out, expected, rtol=8 * EPS)
    masked = jnp.array([0.0, -jnp.inf, 0.0])
    expected = jnp.array([0.5, 0.0, 0.5])
    out = fun(masked)
    np.testing.assert_allclose(out if fun is activations.softmax else jnp.exp(out), expected, rtol=4 * EPS)
    assert jnp.isfinite(jax.grad(lambda z: fun(z)[0])(masked)).all()


def test_log_softmax_keeps_the_digits_of_a_sure_prediction():
    z = jnp.array([50.0, 0.0])  # 1 + e^-50 rounds to 1
    np.testing.assert_allclose(activations.log_softmax(z)[0], -np.exp(-50.0), rtol=4 * EPS)
    np.testing.assert_allclose(jax.grad(lambda z: activations.log_softmax(z)[0])(z)[0], np.exp(-50.0), rtol=4 * EPS)


def test_bad_input():
    with pytest.raises(TypeError, match="z: expected real numbers, got dtype complex128"):
        activations.sigmoid(1j)
    with pytest.raises(ValueError, match="z: expected at least one axis"):
        activations.softmax(1.0)
    with pytest.raises(ValueError, match="axis: expected an axis of z"):
        activations.softmax(jnp.ones(3), axis=1)
    with pytest.raises(ValueError, match=r"activation: expected one of celu, .*; got 'rleu'"):
        activations.get("rleu")
    with pytest.raises(TypeError, match="activation: expected a name"):
        activations.get(3)
    assert activations.sigmoid(0).dtype == jnp.float64
