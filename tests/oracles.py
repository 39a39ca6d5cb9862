"""Independent judges of a rule: multiple precision, JAX's own derivative, differences, the adjoint identity.

Each is a function of a probe's program `fun`, its arguments and a cotangent (or tangent), all NumPy arrays.

The tolerance of a cotangent is the rounding of the sum that it is: x_bar_i = sum_j J_ji y_bar_j has an error of about
eps (1 + log2 n) sum_j |J_ji| |y_bar_j|, n terms, each good to a few units in the last place.  J is JAX's, in float64.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

from functional_dl import reverse
from tests.reverse import ledger

WIDE = {"float64": "float64", "float32": "float64", "bfloat16": "float64", "float16": "float64"}
WIDE |= {"complex128": "complex128", "complex64": "complex128"}
ULPS = 16.0  # a formula is a few operations long, each good to 1 to 4 ulp


def eps(dtype) -> float:
    return float(jnp.finfo(dtype).eps)


def draw(probe, dtype, seed=0, shapes=None):
    """Arguments of a probe: entries even in [low, high), at least `distinct` apart; complex ones in a square."""
    rng = np.random.default_rng(seed)

    def array(shape):
        size = int(np.prod(shape))
        values = rng.uniform(probe.low, probe.high, size)
        if probe.distinct and size > 1:
            grid = probe.low + (probe.high - probe.low) * (np.arange(size) + 0.5) / size
            values = rng.permutation(grid)
        if np.issubdtype(np.dtype(WIDE[dtype]), np.complexfloating):
            values = values + 1j * rng.uniform(probe.low, probe.high, size)
        return jnp.asarray(values.reshape(shape).astype(dtype))

    return tuple(array(shape) for shape in (shapes or probe.shapes))


def cotangent(fun, args, seed=1):
    """A cotangent for every floating output of fun: entries of both signs, none of them small."""
    return cotangent_of(jax.eval_shape(fun, *args), seed)


def cotangent_of(outs, seed=1):
    """A cotangent for outputs of which the shapes are known."""
    rng = np.random.default_rng(seed)

    def one(out):
        if not jnp.issubdtype(out.dtype, jnp.inexact):
            return np.zeros(out.shape, jax.float0)
        values = rng.uniform(0.5, 1.5, out.shape) * rng.choice([-1.0, 1.0], out.shape)
        if jnp.issubdtype(out.dtype, jnp.complexfloating):
            values = values + 1j * rng.uniform(0.5, 1.5, out.shape)
        return jnp.array(np.asarray(values).astype(out.dtype))

    return jax.tree.map(one, outs)


def ours(fun, args, ct):
    return reverse.vjp(fun, *args)[1](ct)


def widened(x):
    """x in float64 or complex128; what has the type float0 as it is."""
    return x if x.dtype == jax.float0 else jnp.asarray(x).astype(WIDE[str(x.dtype)])


# JAX's own derivative of x**n for an integer array n needs implicit promotion.
jax_promotion = functools.partial(jax.numpy_dtype_promotion, "standard")


@jax_promotion()
def references(fun, args, *cts):
    """For each cotangent, JAX's pullback of it and the magnitudes sum_j |J_ji| |y_bar_j| that tolerances are relative
    to, one array an argument, with arguments (and so, mostly, everything) in float64 or complex128.

    One sweep of JAX's, mapped over the cotangents and a basis of all outputs, gives them all.
    """
    args = tuple(map(widened, args))
    out, pull = jax.vjp(ledger.for_jax(fun), *args)
    leaves, tree = jax.tree.flatten(out)
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    units = [[1.0, 1.0j] if jnp.issubdtype(leaves[i].dtype, jnp.complexfloating) else [1.0] for i in places]
    sizes = [len(own) * leaves[i].size for own, i in zip(units, places)]
    starts, count = np.cumsum([0, *sizes]), sum(sizes)
    rows = []
    for own, i, start, size in zip(units, places, starts, sizes):
        basis = np.zeros((count, leaves[i].size), leaves[i].dtype)
        basis[start : start + size] = np.concatenate([unit * np.eye(leaves[i].size) for unit in own])
        given = [widened(jax.tree.leaves(ct)[i]).astype(leaves[i].dtype) for ct in cts]
        rows.append(jnp.concatenate([jnp.asarray(basis).reshape(count, *leaves[i].shape), jnp.stack(given)]))

    def pulled(row):
        filled = [np.zeros(leaf.shape, jax.float0) for leaf in leaves]
        for i, entry in zip(places, row):
            filled[i] = entry
        return pull(jax.tree.unflatten(tree, filled))

    bars = jax.vmap(pulled)(rows)
    found = []
    for k, ct in enumerate(cts):
        weights = [jnp.abs(widened(jax.tree.leaves(ct)[i])).reshape(-1) for own, i in zip(units, places) for _ in own]
        weights = jnp.concatenate(weights)
        magnitudes = [jnp.tensordot(weights, jnp.abs(bar[:count]), 1) for bar in bars]
        found.append(([bar[count + k] for bar in bars], magnitudes))
    return found


def allowance(args, ct, magnitudes):
    """The tolerance of each cotangent entry; see the head of this file."""
    terms = max([int(np.prod(x.shape)) for x in jax.tree.leaves(ct)] + [1])
    dtype_eps = max(eps(x.dtype) for x in [*args, *jax.tree.leaves(ct)] if x.dtype != jax.float0)
    factor = ULPS * dtype_eps * (1 + np.log2(max(terms, 1)))
    return [factor * np.asarray(m) + float(jnp.finfo(x.dtype).tiny) for x, m in zip(args, magnitudes)]


def floating_leaves(ct):
    return [leaf for leaf in jax.tree.leaves(ct) if leaf.dtype != jax.float0]


def with_floating(ct, leaves):
    """ct with its floating leaves replaced; those of type float0 are no arguments of a compiled program."""
    rest = iter(leaves)
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == jax.float0 else next(rest), ct)


def assert_within(actual, expected, tolerance, what):
    """Every entry within its tolerance; nan equals nan, inf equals inf."""
    for i, (a, e, t) in enumerate(zip(actual, expected, tolerance, strict=True)):
        wide = np.result_type(np.asarray(e).dtype, np.float64) if np.asarray(e).dtype.kind in "fc" else np.float64
        a, e = np.asarray(a).astype(wide), np.asarray(e).astype(wide)
        assert a.shape == e.shape, f"{what}: argument {i} has shape {a.shape}, expected {e.shape}"
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        with np.errstate(invalid="ignore"):
            good = same | (np.abs(a - e) <= t)
        assert good.all(), (
            f"{what}: argument {i} differs at {np.argwhere(~good)[0].tolist()}: got {a[~good][0]!r}, "
            f"expected {e[~good][0]!r}, tolerance {np.broadcast_to(t, good.shape)[~good][0]:.3g}"
        )


@functools.lru_cache(maxsize=4096)
def _exact_partial(exact, point, position):
    with mpmath.workdps(50):
        numbers = [mpmath.mpf(x) for x in point]

        def line(t):
            return exact(mpmath, *[t if i == position else x for i, x in enumerate(numbers)])

        return float(mpmath.diff(line, numbers[position]))


def exact_cotangents(probe, args, ct):
    """y_bar times the derivative at 50 digits, entry by entry."""
    flat = [np.asarray(x, np.float64).reshape(-1) for x in args]
    points = list(zip(*[f.tolist() for f in flat]))
    weights = np.asarray(ct, np.float64).reshape(-1)
    return [
        np.array([w * _exact_partial(probe.exact, p, i) for w, p in zip(weights, points)]).reshape(x.shape)
        for i, x in enumerate(args)
    ]


def pairing(ct, tangent):
    """Re sum y_bar y_dot over the floating leaves, without conjugates: the pairing that defines cotangents; and the
    sum of |y_bar| |y_dot|, which its rounding is relative to."""
    pairs = zip(jax.tree.leaves(ct), jax.tree.leaves(tangent), strict=True)
    wide = [[np.asarray(x).astype(WIDE[str(x.dtype)]) for x in pair] for pair in pairs if pair[0].dtype != jax.float0]
    terms = [c * t for c, t in wide]
    return sum(float(term.sum().real) for term in terms), sum(float(np.abs(term).sum()) for term in terms)


def sensitivity(fun, args, ct, signs=4):
    """About sum_k |d x_bar / d x_k| max(|x|, 1), entry by entry of every cotangent, in float64, from random signs.

    Times eps it is what x_bar loses when x is rounded: a program whose derivative is ill-conditioned (near equal
    eigenvalues) cannot do better.
    """
    rng = np.random.default_rng(0)
    args = tuple(map(widened, args))
    h = 2.0**-20
    pull = jax.jit(lambda args: references(fun, args, ct)[0][0])
    here = pull(args)
    sizes = [max(1.0, float(jnp.max(jnp.abs(x), initial=0.0))) for x in args]  # LAPACK's errors are of the whole matrix
    total = [np.zeros(x.shape) for x in args]
    for _ in range(signs):
        moved = tuple(x + (h * rng.choice([-1.0, 1.0], x.shape) * sizes[i]).astype(x.dtype) for i, x in enumerate(args))
        total = [t + np.abs(after - before) / h for t, after, before in zip(total, pull(moved), here)]
    return total


STEPS = (4e-3, 2e-3, 1e-3)


def along(fun, args, tangents, scale=1.0):
    """fun on the line x + t v at t = +h and -h for each of STEPS (times scale), as its outputs stacked: traced once."""

    def value(t):
        return fun(*[x + t.astype(x.dtype) * v for x, v in zip(args, tangents)])

    return jax.lax.map(value, jnp.asarray([[h, -h] for h in STEPS]).reshape(-1) * scale)


def difference(values, ct, scale=1.0):
    """<y_bar, d/dt f(x + t v)> by central differences of the values `along` a line, extrapolated twice (Richardson),
    and an error estimate."""

    def central(i, h):
        quotient = jax.tree.map(
            lambda y, c: c if c.dtype == jax.float0 else (y[2 * i] - y[2 * i + 1]) / (2 * h * scale), values, ct
        )
        return pairing(ct, quotient)[0]

    steps = [central(i, h) for i, h in enumerate(STEPS)]
    first = [(4 * b - a) / 3 for a, b in itertools.pairwise(steps)]
    second = (16 * first[1] - first[0]) / 15
    return second, abs(second - first[1])
