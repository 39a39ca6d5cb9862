r"""Gradients of expectations, d/dtheta E_{x ~ p(theta)} f(x), estimated from samples.

    score function:  E[(f(x) - c) d log p(x; theta)/dtheta]        any p with a density; f need not be differentiable
    pathwise:        E[f'(x(u, theta)) dx(u, theta)/dtheta]        where samples are a smooth function of noise u

Both are unbiased; the constant c changes the variance only.  With the control variate, c is the mean of f over the
*other* samples, so that it is independent of the sample it is subtracted for.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.aliases import Array, Key, PyTree
from functional_dl.integrals import jumps
from functional_dl.jaxprs import all_equations

DistributionName: TypeAlias = Literal["bernoulli", "categorical", "exponential", "gamma", "gaussian"]
Method: TypeAlias = Literal["pathwise", "score"]


class Distribution(NamedTuple):
    """A family of distributions with parameters theta, a dictionary."""

    sample: Callable[..., Any]  # (key, theta) -> x; differentiable in theta if pathwise
    log_density: Callable[..., Any]  # (x, theta) -> number
    pathwise: bool
    parameters: tuple[str, ...]


def _sum(x):
    return jnp.sum(x)


def _gaussian_log(x, theta):
    z = (x - theta["mean"]) / theta["scale"]
    return _sum(-(z**2) / 2 - jnp.log(theta["scale"]) - jnp.log(2 * jnp.pi) / 2)


def _gamma_log(x, theta):
    k, rate = theta["shape"], theta["rate"]
    return _sum(k * jnp.log(rate) + (k - 1) * jnp.log(x) - rate * x - jax.scipy.special.gammaln(k))


def _categorical(key, theta):
    return jax.random.categorical(key, theta["logits"])


DISTRIBUTIONS: dict[str, Distribution] = {
    # x = mean + scale z
    "gaussian": Distribution(
        lambda key, t: t["mean"] + t["scale"] * jax.random.normal(key, t["mean"].shape, t["mean"].dtype),
        _gaussian_log,
        True,
        ("mean", "scale"),
    ),
    # x = e / rate
    "exponential": Distribution(
        lambda key, t: jax.random.exponential(key, jnp.shape(t["rate"]), jnp.result_type(t["rate"])) / t["rate"],
        lambda x, t: _sum(jnp.log(t["rate"]) - t["rate"] * x),
        True,
        ("rate",),
    ),
    # x = g / rate; the derivative of a gamma sample in its shape is that of the inverse distribution function (JAX's)
    "gamma": Distribution(
        lambda key, t: jax.random.gamma(key, t["shape"]) / t["rate"], _gamma_log, True, ("shape", "rate")
    ),
    "bernoulli": Distribution(
        lambda key, t: jax.random.bernoulli(key, jax.nn.sigmoid(t["logits"])).astype(jnp.result_type(t["logits"])),
        lambda x, t: _sum(x * t["logits"] - jax.nn.softplus(t["logits"])),
        False,
        ("logits",),
    ),
    "categorical": Distribution(
        _categorical,
        lambda x, t: _sum(jnp.take_along_axis(jax.nn.log_softmax(t["logits"]), x[..., None], axis=-1)),
        False,
        ("logits",),
    ),
}  # fmt: skip


class ExpectationGradient(NamedTuple):
    """An estimate of d/dtheta E f(x), with its statistical error.

    Attributes:
      value, value_error: the mean of f over the samples, and its standard error.
      gradient: the structure of theta.
      standard_error: of every entry of the gradient.
      variance: of a single sample's estimate, entry by entry: the figure by which two estimators are compared.
      biased: whether the pathwise estimate misses a part of the gradient, or may do so: the standard error is then
        infinite, as it says nothing of that part (see `reason`).
    """

    value: Array
    value_error: Array
    gradient: PyTree
    standard_error: PyTree
    variance: PyTree
    biased: Array

    @property
    def reason(self) -> str:
        """Why the gradient is biased; empty if it is not."""
        return BIASED if bool(np.any(np.asarray(self.biased))) else ""


BIASED = (
    "the gradient is biased: f or the sampler jumps as theta moves, or is not differentiable, and the pathwise "
    "derivative does not see it; method='score' needs no derivative of either"
)


def expectation_gradient(
    f: Callable[..., Any],
    distribution: DistributionName | Distribution,
    theta: dict[Any, Any],
    key: Key,
    *,
    method: Method = "pathwise",
    samples: int = 1024,
    control_variate: bool = True,
) -> ExpectationGradient:
    """An unbiased estimate of d/dtheta E_{x ~ p(theta)} f(x), and its standard error.

    Args:
      f: x -> real number.
      distribution: "gaussian" (mean, scale), "exponential" (rate), "gamma" (shape, rate), "bernoulli" (logits),
        "categorical" (logits, over the last axis); or a Distribution.
      theta: its parameters by name, arrays.
      key: the randomness.
      method: "pathwise" or "score".
      samples: at least 3.
      control_variate: for "score": subtract the mean of f over the other samples.
    Raises:
      TypeError: key is no PRNG key, f no function.
      ValueError: another method or distribution; pathwise asked for where samples are discrete; parameters missing.
    Kinks: pathwise is biased where f or the sampler jumps (it sees f' only); the score function is not.  Jumps are
      looked for along a line of theta, and the result is `biased` where one is met, or where the samples do not say.
    Source: Williams 1992 (score function), Kingma and Welling 2014 (pathwise), Mohamed et al. 2020.
    Example:
      >>> theta = {"mean": jnp.array(0.0), "scale": jnp.array(1.0)}
      >>> found = integrals.expectation_gradient(
      ...     lambda x: (x - 1) ** 2, "gaussian", theta, jax.random.key(0), samples=4000
      ... )
      >>> bool(abs(found.gradient["mean"] + 2) < 5 * found.standard_error["mean"])
      True
    """
    arguments.function("f", f)
    samples = arguments.integer("samples", samples, 3)
    key = arguments.key("key", key)
    if isinstance(distribution, Distribution):
        family = distribution
    else:
        family = arguments.lookup("distribution", distribution, DISTRIBUTIONS)
    arguments.choice("method", method, get_args(Method))
    if method == "pathwise" and not family.pathwise:
        raise ValueError('method: expected "score" for a discrete distribution: its samples do not move smoothly')
    if set(theta) != set(family.parameters):
        raise ValueError(f"theta: expected the parameters {', '.join(family.parameters)}, got {', '.join(theta)}")
    keys = jax.random.split(key, samples)
    if method == "pathwise":
        one = lambda key: jax.value_and_grad(lambda t: f(family.sample(key, t)))(theta)
        values, gradients = jax.vmap(one)(keys)
    else:
        x = jax.vmap(lambda key: family.sample(key, theta))(keys)
        values = jax.vmap(f)(x)
        scores = jax.vmap(jax.grad(family.log_density, argnums=1), in_axes=(0, None))(x, theta)
        others = (jnp.sum(values) - values) / (samples - 1)
        weights = values - others if control_variate else values
        spread = lambda s: weights.reshape((-1,) + (1,) * (s.ndim - 1)).astype(s.dtype) * s
        gradients = jax.tree_util.tree_map(spread, scores)
    biased = jnp.asarray(False)
    if method == "pathwise":
        biased = _jumps_along(lambda key, theta: jnp.asarray(f(family.sample(key, theta))), theta, keys[:LINES])
    mean = jax.tree_util.tree_map(lambda g: jnp.mean(g, axis=0), gradients)
    variance = jax.tree_util.tree_map(lambda g: jnp.var(g, axis=0, ddof=1), gradients)
    error = jax.tree_util.tree_map(lambda v: jnp.sqrt(v / samples), variance)
    if method == "pathwise" and isinstance(distribution, Distribution):
        biased |= _apart(f, family, theta, keys, values, mean, error)
    error = jax.tree_util.tree_map(lambda e: jnp.where(biased, jnp.full_like(e, jnp.inf), e), error)
    return ExpectationGradient(jnp.mean(values), jnp.std(values, ddof=1) / samples**0.5, mean, error, variance, biased)


LINES = 64  # samples that are followed as theta moves
PLACES = 48  # on either side
BISECTIONS = 40
JUMP = 1e-3  # of how much the function moves along the line: a step that is no rounding
SURE = 6.0  # standard errors


def _jumps_along(path: Callable[..., Any], theta: Any, keys: Array) -> Array:
    """Whether (key, theta) -> number jumps as theta moves along a line; also where it may, and no sample says."""
    flat, tree = jax.tree_util.tree_flatten(theta)
    of_flat = lambda key, *flat: path(key, jax.tree_util.tree_unflatten(tree, flat))
    jaxpr = jax.make_jaxpr(of_flat)(keys[0], *flat)
    moving, unknown = jumps.dependence(jaxpr, [(False, False), *[(True, True)] * len(flat)])
    stopped = any(eqn.primitive.name == "stop_gradient" for eqn in all_equations(jaxpr))
    if unknown or stopped:
        return jnp.asarray(True)
    if not any(moving):
        return jnp.asarray(False)
    rng = np.random.default_rng(1)
    along = [jnp.asarray(rng.uniform(0.5, 1.0, jnp.shape(leaf)), jnp.result_type(leaf)) for leaf in flat]
    # near first: places at distances that grow
    far = np.geomspace(1e-3, 4.0, PLACES)
    places = np.concatenate([-far[::-1], far])
    at = lambda key, s: (key, *[x + s.astype(x.dtype) * v * (1 + jnp.abs(x)) for x, v in zip(flat, along)])
    margins = lambda key, s: jumps.margins(jaxpr, moving, at(key, s))
    value = lambda key, s: of_flat(*at(key, s))
    s = jnp.asarray(places, jnp.result_type(flat[0]))

    def follow(key):
        m = jax.vmap(lambda place: margins(key, place))(s)
        changes = m[:-1] * m[1:] < 0
        met = jnp.any(changes, axis=0)
        index = jnp.sum(jnp.cumsum(changes, axis=0) == 0, axis=0)
        index = jnp.where(met, index, 0)

        def step(site, index):
            low, high, before = s[index], s[index + 1], m[index, site]
            wide = jnp.abs(value(key, high) - value(key, low))
            low, high = jumps.bisected(lambda at: margins(key, at)[site] * before > 0, low, high, BISECTIONS)
            return jnp.abs(value(key, high) - value(key, low)), wide

        narrow, wide = jax.vmap(step)(jnp.arange(m.shape[1]), index)
        values = jax.vmap(lambda place: value(key, place))(s)
        return met, met & (narrow > JUMP * (wide + 1e-3 * jnp.ptp(values)))

    met, jumped = jax.vmap(follow)(keys)
    return jnp.any(jumped) | ~jnp.all(jnp.any(met, axis=0))


def _apart(f, family, theta, keys, values, mean, error) -> Array:
    """Whether the score function, which is not biased, says another gradient: of a sampler whose derivative is not to
    be trusted."""
    x = jax.vmap(lambda key: family.sample(key, theta))(keys)
    scores = jax.vmap(jax.grad(family.log_density, argnums=1), in_axes=(0, None))(x, theta)
    weights = values - jnp.mean(values)
    says = []
    for g, e, s in zip(*map(jax.tree_util.tree_leaves, (mean, error, scores))):
        terms = weights.reshape((-1,) + (1,) * (s.ndim - 1)).astype(s.dtype) * s
        spread = jnp.hypot(jnp.std(terms, axis=0, ddof=1) / len(values) ** 0.5, e)
        says.append(jnp.any(jnp.abs(jnp.mean(terms, axis=0) - g) > SURE * spread))
    return jnp.any(jnp.stack(says))
