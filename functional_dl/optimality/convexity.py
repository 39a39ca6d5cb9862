"""Is a function convex?  A search for a counterexample; what it does not find is not a proof."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from functional_dl import arguments
from functional_dl.aliases import Key
from functional_dl.precision import double

ROUNDING = 256  # units of the last place of the values compared, below which a violation is rounding
TRIES = 12  # violations that are looked at again
BESIDE = 24  # chords beside one, all of which have to be violated
REFUTED, UNREFUTED = "not convex", "no counterexample found"


class Witness(NamedTuple):
    """f(t x + (1 - t) y) > t f(x) + (1 - t) f(y), by `violation`.

    Fields:
      x, y: two points; t: in (0, 1).
      violation: how far the value between lies above the chord.
      source: "chord" (of two sampled points) or "curvature" (of a sampled point, along an eigenvector of the Hessian).
    """

    x: Any
    y: Any
    t: float
    violation: float
    source: str


class Convexity(NamedTuple):
    """What the search found.

    Fields:
      verdict: "not convex", which the witness proves (up to rounding), or "no counterexample found", which proves
        nothing.
      witness: the counterexample, or None.
      tested: chords and points that were tried.
      least_curvature: the least eigenvalue of a Hessian at the sampled points, relative to the largest; NaN where f has
        no second derivative there.
    """

    verdict: str
    witness: Witness | None
    tested: int
    least_curvature: float

    @property
    def convex(self) -> bool | None:
        """False where refuted, else None: samples prove no convexity."""
        return False if self.witness is not None else None


def is_convex(
    f: Callable[..., Any], sampler: Callable[..., Any], key: Key, *, points: int = 64, chords: int = 512
) -> Convexity:
    r"""Looks for a chord that lies below the graph, f(t x + (1 - t) y) > t f(x) + (1 - t) f(y), two ways.

    Chords between sampled points at random t; and the curvature v' H(x) v < 0 along the eigenvector of the Hessian's
    least eigenvalue at sampled points, which is turned into a chord there: f(x) > (f(x + h v) + f(x - h v)) / 2.

    Args:
      f: function of a pytree of floating arrays with one real number as its value; +inf means outside the domain.
      sampler: key -> a point of the domain, which has to be convex.
      key: for the sampler and the t.
      points, chords: how many Hessians (none for more than 256 variables) and chords.
    Returns:
      Convexity(verdict, witness, tested, least_curvature).
    Raises:
      TypeError: f or sampler is not callable, key is no PRNG key.
      ValueError: f's value is no real number, or points < 1.
    Numerics: in float64; a violation counts from 256 units of the last place of the values compared, and only where the
      chords beside it are violated too: rounding inside f, in float32 say, is no witness.
    Source: Boyd and Vandenberghe 2004, sections 3.1.1 and 3.1.4.
    Example:
      >>> sampler = lambda key: jax.random.normal(key, (2,))
      >>> optimality.is_convex(lambda x: x[0] * x[1], sampler, jax.random.key(0)).verdict
      'not convex'
    """
    for name, given in (("f", f), ("sampler", sampler)):
        arguments.function(name, given)
    key = arguments.key("key", key)
    points, chords = arguments.integer("points", points), arguments.integer("chords", chords)
    with double():
        first, unravel = ravel_pytree(_doubled(sampler(key)))
        flat = _flat_function(f, unravel)
        values = jax.jit(jax.vmap(flat))
        pick, between = jax.random.split(key)
        count = max(points, 32)
        samples = jnp.stack([ravel_pytree(_doubled(sampler(k)))[0] for k in jax.random.split(pick, count)])
        samples = jnp.concatenate([first[None], samples])
        found = [_by_chords(values, samples, between, chords)]
        least = np.nan
        if first.size <= 256:
            witness, least = _by_curvature(flat, values, samples[:points])
            found.append(witness)
        found = [w for w in found if w is not None]
        best = max(found, key=lambda w: w.violation, default=None)
        if best is not None:
            best = best._replace(x=unravel(jnp.asarray(best.x)), y=unravel(jnp.asarray(best.y)))
    return Convexity(UNREFUTED if best is None else REFUTED, best, chords + len(samples), float(least))


def _doubled(x):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.float64), x)


def _flat_function(f, unravel):
    def flat(x):
        value = jnp.asarray(f(unravel(x)))
        if value.shape != () or jnp.iscomplexobj(value):
            raise ValueError(f"f: expected one real number, got {value.dtype} of shape {value.shape}")
        return value.astype(jnp.float64)

    return flat


def _by_chords(values, samples, key, chords):
    pairs, at = jax.random.split(key)
    i, j = jax.random.randint(pairs, (2, chords), 0, len(samples))
    t = jax.random.uniform(at, (chords,), dtype=jnp.float64, minval=0.02, maxval=0.98)
    x, y = samples[i], samples[j]
    middle = t[:, None] * x + (1 - t)[:, None] * y
    fx, fy, fm = (np.asarray(values(p)) for p in (x, y, middle))
    t = np.asarray(t)
    with np.errstate(invalid="ignore", over="ignore"):
        chord = t * fx + (1 - t) * fy
        excess = fm - chord
        allowed = ROUNDING * np.finfo(float).eps * (np.abs(fx) + np.abs(fy) + np.abs(fm))
    excess = np.where(np.isfinite(fx) & np.isfinite(fy), excess, -np.inf)
    excess = np.where(np.isnan(excess), -np.inf, excess)
    for k in np.argsort(allowed - excess)[:TRIES]:
        if excess[k] > allowed[k] + _noise(values, x[k], y[k], middle[k]) and _stands(values, x[k], y[k], t[k]):
            return Witness(np.asarray(x[k]), np.asarray(y[k]), float(t[k]), float(excess[k]), "chord")
    return None


def _by_curvature(flat, values, samples):
    hessians = jax.jit(jax.vmap(jax.hessian(flat)))(samples)
    finite = np.isfinite(np.asarray(hessians)).all((1, 2))
    if not finite.any():
        return None, np.nan
    curvatures, vectors = np.linalg.eigh(np.asarray(hessians)[finite])
    size = np.maximum(np.abs(curvatures).max(1), 1e-300)
    relative = curvatures[:, 0] / size
    found = None
    for k in np.argsort(relative)[:8]:
        if relative[k] >= -1e-10:
            break
        witness = _chord_at(values, np.asarray(samples)[finite][k], vectors[k, :, 0])
        if witness is not None and (found is None or witness.violation > found.violation):
            found = witness
    return found, float(relative.min())


def _chord_at(values, x, v):
    """The chord through x along v with the largest violation, over several lengths."""
    h = (1 + np.abs(x).max(initial=0.0)) * 4.0 ** -np.arange(16)
    ends = np.stack([x + s * h[:, None] * v for s in (1.0, -1.0)])
    up, down = (np.asarray(values(jnp.asarray(e))) for e in ends)
    middle = float(values(jnp.asarray(x)[None])[0])
    with np.errstate(invalid="ignore"):
        excess = middle - (up + down) / 2
        allowed = ROUNDING * np.finfo(float).eps * (np.abs(up) + np.abs(down) + abs(middle))
    good = np.isfinite(up) & np.isfinite(down) & (excess > allowed)
    for k in np.argsort(np.where(good, -excess, np.inf))[:TRIES]:
        noise = _noise(values, ends[0][k], ends[1][k], x)
        if good[k] and excess[k] > allowed[k] + noise and _stands(values, ends[0][k], ends[1][k], 0.5):
            return Witness(ends[0][k], ends[1][k], 0.5, float(excess[k]), "curvature")
    return None


def _stands(values, x, y, t) -> bool:
    """Whether f lies above the chords beside x, y too: moved by 1/32 of their length and of x, and as much longer.

    Rounding that f's own arithmetic makes (in float32, or of terms that cancel) is above one chord and below the next.
    """
    x, y = np.asarray(x), np.asarray(y)
    random = np.random.default_rng(0)
    far = np.linalg.norm(y - x) + np.abs(x).max(initial=0.0)
    along = (1 + random.uniform(-1, 1, (BESIDE, 1)) / 32) * (y - x)
    x = x + far / 32 * random.uniform(-1, 1, (BESIDE, x.size))
    y = x + along
    fx, fy, fm = (np.asarray(values(jnp.asarray(points))) for points in (x, y, t * x + (1 - t) * y))
    with np.errstate(invalid="ignore"):
        known = np.isfinite(fx) & np.isfinite(fy)  # beyond the domain a chord says nothing
        return bool(np.all(fm > t * fx + (1 - t) * fy, where=known) and np.any(known))


def _noise(values, *places) -> float:
    """What f's values are off by: their departure from a straight line over stretches so short that f has no room to
    bend.  Twelve points on each, from some last places of x to 1e-8 of it."""
    rng, t = np.random.default_rng(0), np.linspace(-1, 1, 12)
    line = np.stack([np.ones_like(t), t], axis=1)
    total = 0.0
    for x in map(np.asarray, places):
        direction = (np.abs(x) + np.abs(x).max(initial=0.0)) * rng.choice([-1.0, 1.0], x.shape)
        worst = 0.0
        for length in (2.0**-50, 2.0**-38, 2.0**-27):
            found = np.asarray(values(jnp.asarray(x + length * t[:, None] * direction)))
            if np.isfinite(found).all():
                worst = max(worst, float(np.ptp(found - line @ np.linalg.lstsq(line, found)[0])))
        total += 4 * worst
    return total
