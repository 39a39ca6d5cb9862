"""Every loss of the table: its formula at 120 digits, JAX's derivative, its kinks, its refusals."""

import functools

import chex
import formulas
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from every import every

from functional_dl import losses
from functional_dl.losses import LOSSES, Loss

EPS = np.finfo(np.float64).eps
DTYPES = (jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16)
SCALAR = [name for name, entry in LOSSES.items() if not entry.reduces]
REDUCING = [name for name, entry in LOSSES.items() if entry.reduces]
POINTS = {
    "real": (-30.0, -2.5, -0.7, 1e-9, 0.4, 1.5, 12.0),
    "unit": (0.0, 1e-9, 0.25, 0.5, 0.9, 1.0),
    "positive": (1e-9, 0.3, 1.0, 2.5, 40.0),
    "count": (0.0, 1.0, 2.0, 7.0),
    "sign": (-1.0, 1.0),
    "simplex": ([0.2, 0.5, 0.3], [0.98, 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3], [1e-6, 1e-6, 1 - 2e-6]),
    "vector": ([0.3, -1.2, 2.0], [1.0, 1.0, 1.0 + 1e-3], [-30.0, 30.0, 0.0], [40.0, 0.5, -3.0]),
}
ONE_HOT = [0.0, 1.0, 0.0]  # a target where a prediction would be at its border
KINKS = [(name, kink) for name, entry in LOSSES.items() for kink in entry.kinks]


def examples(entry: Loss):
    """Predictions and targets of the entry's domains, every one with every one, as two arrays."""
    targets = POINTS[entry.target] + ((ONE_HOT,) if entry.target == "simplex" else ())
    pairs = [(p, t) for p in POINTS[entry.pred] for t in targets]
    on_border = {(0.0, 0.0), (1.0, 1.0)}  # the derivative in p is one-sided there
    if entry.pred == "unit":
        pairs = [(p, t) for p, t in pairs if 0.0 < p < 1.0 and (p, t) not in on_border]
    return jnp.array([p for p, _ in pairs]), jnp.array([t for _, t in pairs])


def all_three(entry: Loss, pred, target):
    """The loss, its hand derivative and JAX's."""
    out, pullback = jax.vjp(lambda p: entry.fun(p, target), pred)
    return out, entry.prime(pred, target), pullback(jnp.ones_like(out))[0]


def value_prime_grad(entry: Loss, *examples):
    """The three of each (pred, target), all in one program."""
    return jax.device_get(jax.jit(lambda examples: [all_three(entry, *example) for example in examples])(examples))


# p - t is rounded once, p itself enters exactly: the error is some ulps of the terms, 1 + |l| + |p l'|.
@pytest.mark.parametrize("name", SCALAR)
def test_value_and_derivative_against_the_formula(name):
    entry = LOSSES[name]
    formula = formulas.function(entry.formula, "p", "t")
    kinks = {kink.location for kink in entry.kinks}
    pred, target = examples(entry)
    [found] = value_prime_grad(entry, (pred, target))
    for p, t, value, prime, grad in zip(pred.tolist(), target.tolist(), *found, strict=True):
        at_kink = (p, t) in kinks or (p == t and "pred = target" in {kink.where for kink in entry.kinks})
        expected = float(formula(p, t))
        if at_kink:
            assert abs(value - expected) <= EPS
            continue
        first, second = (float(formulas.derivative(lambda v: formula(v, t), p, order)) for order in (1, 2))
        assert abs(value - expected) <= 8 * EPS * (1 + abs(expected) + abs(p * first))
        assert abs(prime - first) <= 8 * EPS * (1 + abs(first) + abs(p * second))
        assert abs(grad - first) <= 8 * EPS * (1 + abs(first) + abs(p * second) + abs(p))


@pytest.mark.parametrize("name", REDUCING)
def test_reducing_value_and_gradient_against_the_formula(name):
    entry = LOSSES[name]
    formula = formulas.function(entry.formula, "p", "t")
    pred, target = examples(entry)
    [found] = value_prime_grad(entry, (pred, target))
    for p, t, value, prime, grad in zip(np.asarray(pred), np.asarray(target), *found, strict=True):
        expected = float(formula(p, t))
        gradient = np.array([float(formulas.partial(lambda v: formula(v, t), p, i)) for i in range(p.size)])
        # A sum of terms that cancel (KL near p = t): ulps of the largest logarithm, or of the largest |p|.
        scale = 1 + abs(expected) + np.abs(p).max() + np.abs(np.log(np.abs(p) + 1e-300)).max()
        assert abs(value - expected) <= 8 * EPS * scale
        np.testing.assert_allclose(prime, gradient, rtol=16 * EPS, atol=8 * EPS * (1 + np.abs(p).max()))
        np.testing.assert_allclose(grad, gradient, rtol=16 * EPS, atol=8 * EPS * (1 + np.abs(p).max()))


def drawn(entry: Loss, dtype):
    """Random predictions and targets of the entry's domains."""
    return drawn_from(entry.pred, entry.target, dtype)


@functools.cache
def drawn_from(pred, target, dtype, shape=(4, 3)):
    draw = {
        "real": lambda key: 3 * jax.random.normal(key, shape, dtype),
        "unit": lambda key: jax.random.uniform(key, shape, dtype, 0.1, 0.9),
        "positive": lambda key: jax.random.uniform(key, shape, dtype, 0.2, 3.0),
        "count": lambda key: jax.random.randint(key, shape, 0, 5).astype(dtype),
        "sign": lambda key: 2 * jax.random.bernoulli(key, 0.5, shape).astype(dtype) - 1,
        "simplex": lambda key: jax.nn.softmax(jax.random.normal(key, shape, dtype)),
    }
    draw["vector"] = draw["real"]
    keys = jax.random.split(jax.random.key(3))
    return jax.jit(lambda keys: (draw[pred](keys[0]), draw[target](keys[1])))(keys)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.sampled(3)
def test_shape_and_dtype(name):
    entry = LOSSES[name]
    examples = [drawn(entry, dtype) for dtype in DTYPES]
    together = tuple(np.concatenate([np.asarray(v, np.float64) for v in column]) for column in zip(*examples))
    *found, wide = value_prime_grad(entry, *examples, together)
    exact = zip(*(np.split(values, len(DTYPES)) for values in wide))

    def judge(case):
        dtype, (loss, prime, grad), exact = case
        assert loss.shape == ((4,) if entry.reduces else (4, 3))
        assert prime.shape == grad.shape == (4, 3)
        assert loss.dtype == prime.dtype == grad.dtype == dtype
        eps = float(jnp.finfo(dtype).eps)
        # Entries of size up to 10 and derivatives up to 25 (1/p at 0.04): some ulps of the terms' sizes.
        for ours, expected in zip((loss, prime, grad), exact, strict=True):
            tolerance = 16 * eps * (10 + np.abs(expected))
            assert np.all(np.abs(ours.astype(np.float64) - expected) <= tolerance)

    cases = zip(DTYPES, found, exact, strict=True)
    every(cases, judge, name=lambda case: case[0].__name__)


class TestVariants(chex.TestCase):
    """What is held to its values elsewhere in compiled programs, operation by operation too."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_derivatives(self):
        for name in ("huber", "softmax_cross_entropy"):
            example = drawn(LOSSES[name], jnp.float32)
            [expected] = value_prime_grad(LOSSES[name], [v.astype(jnp.float64) for v in example])
            found = self.variant(functools.partial(all_three, LOSSES[name]))(*example)
            for ours, exact in zip(found, expected, strict=True):
                assert np.all(
                    np.abs(np.float64(ours) - exact) <= 16 * np.finfo(np.float32).eps * (10 + np.abs(exact))
                ), name


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_is_the_batch(name):
    entry = LOSSES[name]
    example = drawn(entry, jnp.float64)
    both = jax.jit(lambda *example: [(jax.vmap(fun)(*example), fun(*example)) for fun in (entry.fun, entry.prime)])
    for mapped, batch in both(*example):
        np.testing.assert_allclose(mapped, batch, rtol=8 * EPS, atol=8 * EPS)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_broadcast(name):
    entry = LOSSES[name]
    pred, target = drawn(entry, jnp.float64)
    for fun in (entry.fun, entry.prime, jax.jit(entry.fun)):
        for other in (target[:1], target[:, :1], target[0, 0], target[None]):
            with pytest.raises(ValueError, match=r"expected .*got .*shape \(4, 3\)"):
                fun(pred, other)


@pytest.mark.parametrize(("name", "kink"), KINKS, ids=str)
def test_a_kink_has_its_stated_convention(name, kink):
    entry = LOSSES[name]
    p, t = kink.location
    assert float(jax.grad(entry.fun)(p, t)) == kink.value
    assert float(entry.prime(p, t)) == kink.value
    formula = formulas.function(entry.formula, "p", "t")
    x, h = formulas.exact(p), formulas.mp.mpf(10) ** -40
    t = formulas.exact(t)
    assert abs(float((formula(x + h, t) - formula(x, t)) / h) - kink.right) <= EPS
    assert abs(float((formula(x, t) - formula(x - h, t)) / h) - kink.left) <= EPS


def test_the_conventions_of_others_are_as_stated():
    assert float(jax.grad(jnp.abs)(0.0)) == LOSSES["absolute_error"].kinks[0].jax
    for kink in LOSSES["hinge"].kinks:
        assert float(jax.grad(optax.losses.hinge_loss)(*map(jnp.float64, kink.location))) == kink.jax


EXTREME = [-np.inf, -1e30, -750.0, -40.0, 0.0, 40.0, 750.0, 1e30, np.inf]


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32], ids=lambda d: d.__name__)
def test_sigmoid_cross_entropy_at_any_size(dtype):
    z = jnp.array(EXTREME, dtype)
    eps = float(jnp.finfo(dtype).eps)
    one = formulas.function("log1p(exp(-z))", "z")
    slope = formulas.function("-1/(1 + exp(z))", "z")
    (value, prime, grad), (mirrored, mirrored_prime, _) = value_prime_grad(
        LOSSES["sigmoid_cross_entropy"], (z, jnp.ones_like(z)), (-z, jnp.zeros_like(z))
    )
    np.testing.assert_array_equal(value, mirrored)
    np.testing.assert_array_equal(prime, -mirrored_prime)
    for i, v in enumerate(EXTREME):
        tiny = float(jnp.finfo(dtype).tiny)
        finite = np.clip(v, -1e30, 1e30)
        expected = np.inf if v == -np.inf else float(one(finite.astype(dtype)))
        assert value[i] == expected or abs(value[i] - expected) <= 4 * eps * expected + tiny
        expected = float(slope(finite.astype(dtype)))
        assert abs(prime[i] - expected) <= 4 * eps * abs(expected) + tiny
        assert abs(grad[i] - expected) <= 4 * eps * abs(expected) + tiny


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "focal"])
def test_binary_losses_of_logits_never_give_nan(name):
    examples = []
    for dtype in DTYPES:
        largest = float(jnp.finfo(dtype).max)
        z = jnp.array([-np.inf, -largest, -largest / 4, -80.0, 80.0, largest / 4, largest, np.inf], dtype)
        examples += [(z, jnp.full_like(z, t)) for t in (0.0, 0.5, 1.0)]
    for (z, t), outs in zip(examples, value_prime_grad(LOSSES[name], *examples), strict=True):
        for what, out in zip(("value", "prime", "jax's derivative"), outs, strict=True):
            assert not np.isnan(out).any(), f"{z.dtype}, target {t[0]}: {what}"


def test_softmax_cross_entropy_at_any_size():
    inf = np.inf
    logits = jnp.array([[1e30, -1e30, 0.0], [inf, 0.0, 1.0], [-inf, 0.0, 0.0], [50.0, 0.0, 0.0]])
    expected = np.array([
        [0.0, 2e30, 1e30],
        [0.0, inf, inf],
        [inf, np.log(2.0), np.log(2.0)],
        [np.log1p(2 * np.exp(-50.0)), 50.0 + np.log1p(2 * np.exp(-50.0)), 50.0 + np.log1p(2 * np.exp(-50.0))],
    ])  # fmt: skip
    p = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [1.0, np.exp(-50.0), np.exp(-50.0)]])
    p[3, 0] -= 2 * np.exp(-50.0)
    for label in range(3):
        labels = jnp.full(4, label)
        one_hot = jax.nn.one_hot(labels, 3, dtype=jnp.float64)
        for target in (labels, one_hot):
            [(value, prime, grad)] = value_prime_grad(LOSSES["softmax_cross_entropy"], (logits, target))
            np.testing.assert_allclose(value, expected[:, label], rtol=4 * EPS)
            np.testing.assert_allclose(grad[[0, 2, 3]], (p - one_hot)[np.array([0, 2, 3])], rtol=0, atol=2 * EPS)
            np.testing.assert_allclose(prime[[0, 2, 3]], (p - one_hot)[np.array([0, 2, 3])], rtol=0, atol=2 * EPS)
            assert not np.isnan(grad).any()
    sure = jax.grad(losses.softmax_cross_entropy)(logits[3], 0)
    np.testing.assert_allclose(sure[0], -2 * np.exp(-50.0), rtol=8 * EPS)  # p - 1, which p alone has lost


def test_labels_equal_one_hot_and_wrong_labels_do_not_pass():
    logits = jax.random.normal(jax.random.key(0), (5, 4))
    labels = jnp.array([0, 3, 1, 2, 2])
    fun = jax.jit(losses.softmax_cross_entropy)
    np.testing.assert_array_equal(fun(logits, labels), fun(logits, jax.nn.one_hot(labels, 4, dtype=float)))
    for wrong in (jnp.array([0, 4, 1, 2, 2]), jnp.array([0, -1, 1, 2, 2])):
        with pytest.raises(ValueError, match=r"targets: expected labels in \[0, 4\), got (4|-1)"):
            losses.softmax_cross_entropy(logits, wrong)
        np.testing.assert_array_equal(np.isnan(fun(logits, wrong)), [False, True, False, False, False])
        gradient = jax.jit(jax.grad(lambda z, t: fun(z, t).sum()))(logits, wrong)
        np.testing.assert_array_equal(np.isnan(gradient).any(1), [False, True, False, False, False])
    with pytest.raises(TypeError, match="targets: expected integer labels"):
        losses.softmax_cross_entropy(logits, jnp.ones(5))


def test_probabilities_at_their_borders():
    bce = losses.binary_cross_entropy
    assert [float(bce(p, t)) for p, t in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0))] == [
        0,
        0,
        np.inf,
        np.inf,
    ]
    assert float(losses.binary_cross_entropy_prime(0.0, 0.0)) == float(jax.grad(bce)(0.0, 0.0)) == 1.0
    assert float(losses.binary_cross_entropy_prime(1.0, 1.0)) == float(jax.grad(bce)(1.0, 1.0)) == -1.0
    outside = [(p, t) for p in (-0.1, 1.1) for t in (0.0, 0.5, 1.0)]
    assert np.isnan([float(jax.jit(bce)(p, t)) for p, t in outside]).all()  # where values are not known
    for p, t in outside:
        with pytest.raises(ValueError, match=rf"probs: expected values in \[0, 1\], got {p}"):
            bce(p, t)
    assert np.isnan(float(bce(jnp.nan, 1.0)))  # a NaN that a program computed is handed on
    one = jnp.array([1.0, 0.0])
    for fun in (losses.cross_entropy, losses.kl_divergence):
        assert float(fun(one, one)) == 0.0
        assert float(fun(one, one[::-1])) == np.inf
        assert not np.isnan(jax.grad(fun)(one, one)).any()
    assert float(losses.poisson(0.0, 0.0)) == 0.0
    assert float(jax.grad(losses.poisson)(0.0, 0.0)) == float(losses.poisson_prime(0.0, 0.0)) == 1.0


def test_losses_that_are_one_another():
    z = jnp.linspace(-6.0, 6.0, 25)
    t = jnp.linspace(0.0, 1.0, 25)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
    close(losses.sigmoid_cross_entropy(z, t), losses.binary_cross_entropy(jax.nn.sigmoid(z), t))
    close(losses.sigmoid_cross_entropy(z, t), losses.focal(z, t, gamma=0.0))
    close(losses.focal(z, t) / 2, losses.focal(z, t, alpha=0.5))
    pairs = jnp.stack([z, -z], -1)
    simplex = jnp.stack([t, 1 - t], -1)
    close(losses.softmax_cross_entropy(pairs, simplex), losses.cross_entropy(jax.nn.softmax(pairs), simplex))
    close(losses.softmax_cross_entropy(pairs, simplex), losses.sigmoid_cross_entropy(2 * z, t))
    close(losses.log_poisson(z, jnp.round(t)), losses.poisson(jnp.exp(z), jnp.round(t)))
    close(losses.squared_hinge(z, jnp.sign(t - 0.51)), losses.hinge(z, jnp.sign(t - 0.51)) ** 2)
    close(losses.squared_error(z, t), 2 * losses.half_squared_error(z, t))
    close(losses.gaussian_nll(z, t, 2.0), (np.log(4 * np.pi) + (z - t) ** 2 / 2) / 2)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("huber", (0.3,)),
        ("quantile", (0.9,)),
        ("gaussian_nll", (0.25,)),
        ("focal", (3.0, 0.25)),
        ("focal", (0.0, 1.0)),
    ],
    ids=str,
)
def test_parameters_reach_the_derivative(name, parameters):
    pred, target = drawn(LOSSES[name], jnp.float64)
    fun, prime = LOSSES[name].fun, LOSSES[name].prime
    by_hand, grad = jax.jit(
        lambda p: (prime(p, target, *parameters), jax.grad(lambda p: fun(p, target, *parameters).sum())(p))
    )(pred)
    np.testing.assert_allclose(by_hand, grad, rtol=1e-13, atol=1e-14)


def test_the_quantile_loss_is_least_at_the_quantile():
    sample = jax.random.normal(jax.random.key(0), (1001,))
    values = jax.vmap(lambda q: losses.quantile(jnp.full_like(sample, q), sample, 0.9).sum())(jnp.sort(sample))
    assert int(jnp.argmin(values)) == 900


def test_lists_integers_and_numpy_arrays_are_read():
    np.testing.assert_array_equal(losses.hinge([0.5, 2.0], [1, -1]), [0.5, 3.0])
    assert losses.huber(1, 3).dtype == jnp.float64
    assert losses.squared_error(np.ones(2, np.float32), np.arange(2)).dtype == jnp.float32
    assert float(losses.softmax_cross_entropy([0.0, 0.0], 1)) == np.log(2.0)
    with pytest.raises(TypeError, match="target: expected an array of numbers, got 'one'"):
        losses.huber(1.0, "one")


def test_huge_residuals_and_zero_vectors():
    assert float(losses.huber(1e300, 0.0)) == 1e300
    assert float(jax.grad(losses.huber)(1e300, 0.0)) == 1.0
    assert float(losses.log_cosh(1e300, 0.0)) == 1e300
    assert float(jax.grad(losses.log_cosh)(-1e300, 0.0)) == -1.0
    np.testing.assert_allclose(losses.log_cosh(1e-9, 0.0), 5e-19, rtol=4 * EPS)
    zero, some = jnp.zeros(2), jnp.array([1e300, 1e300])
    assert float(losses.cosine(zero, some)) == float(losses.cosine(some, zero)) == 1.0
    assert not jax.grad(losses.cosine)(zero, some).any()
    assert not losses.cosine_prime(zero, some).any()
    assert abs(float(losses.cosine(some, -some)) - 2.0) <= 4 * EPS
    assert not np.isnan(jax.grad(losses.cosine)(some, -some)).any()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: losses.huber(1.0, 0.0, -1.0), ValueError, "delta: expected a number > 0, got -1"),
    (lambda: losses.quantile(1.0, 0.0, 1.5), ValueError, "level: expected values in .0, 1., got 1.5"),
    (lambda: losses.gaussian_nll(1.0, 0.0, 0.0), ValueError, "variance: expected a number > 0"),
    (lambda: losses.gaussian_nll(*jnp.ones((2, 3)), jnp.ones(2)), ValueError, "variance: expected a number"),
    (lambda: losses.focal(1.0, 1.0, -1.0), ValueError, "gamma: expected values in"),
    (lambda: losses.focal(1.0, 1.0, 2.0, 1.5), ValueError, "alpha: expected values in"),
    (lambda: losses.hinge(jnp.ones(2), jnp.array([0.0, 1.0])), ValueError, "target: expected values among"),
    (lambda: losses.sigmoid_cross_entropy(1.0, 2.0), ValueError, "targets: expected values in .0, 1., got 2"),
    (lambda: losses.squared_error(1j, 1.0), TypeError, "pred: expected real numbers, got dtype complex"),
    (lambda: losses.cross_entropy(1.0, 1.0), ValueError, "probs: expected a class axis, got a scalar"),
    (lambda: losses.cosine(1.0, 1.0), ValueError, "pred: expected shape"),
    (lambda: losses.get("mse"), ValueError, "loss: expected one of absolute_error, .*; got 'mse'"),
    (lambda: losses.get(1), TypeError, "loss: expected a name or a Loss, got 1 .int"),
    (lambda: Loss(abs, abs, (), "", "", pred="complex"), ValueError, "pred: expected one of count, positive, real"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
