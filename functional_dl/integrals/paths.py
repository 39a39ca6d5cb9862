"""Integrals along paths, and what they say of a network: integrated gradients, saliency, SmoothGrad."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments, tree
from functional_dl.aliases import Array, Key, PyTree
from functional_dl.integrals import definite, rules
from functional_dl.integrals.definite import integrate
from functional_dl.integrals.result import Integral


def line_integral(
    field: Callable[..., Any], path: Callable[..., Any], t0: float, t1: float, **settings: Any
) -> Integral:
    r"""The integral of a field along a path.

        of a vector field:  int_{t0}^{t1} <F(r(t)), r'(t)> dt      (work; changes its sign with the direction)
        of a scalar field:  int_{t0}^{t1} f(r(t)) |r'(t)| dt

    Args:
      field: place, an array of shape (n,), -> an array of shape (n,), or a number.
      path: t -> place.
      t0, t1: numbers.
      settings: as for `integrate`.
    Raises:
      ValueError: the field's value has neither the shape of a place nor that of a number.
    Example:
      >>> circle = lambda t: jnp.stack([jnp.cos(t), jnp.sin(t)])
      >>> turning = lambda r: jnp.stack([-r[1], r[0]])
      >>> round(float(integrals.line_integral(turning, circle, 0.0, jnp.pi).value), 6)
      3.141593
    """
    arguments.function("field", field)
    arguments.function("path", path)

    def element(t):
        place, rate = jax.jvp(lambda t: jnp.asarray(path(t)), (t,), (jnp.ones_like(t),))
        value = jnp.asarray(field(place))
        if value.shape == place.shape and value.ndim == 1:
            return jnp.sum(value * rate)
        if value.shape != ():
            raise ValueError(f"field: expected a number or shape {place.shape}, got shape {value.shape}")
        return value * jnp.sqrt(jnp.sum(jnp.square(rate)))

    return integrate(element, t0, t1, **settings)


def potential_difference(
    potential: Callable[..., Any], path: Callable[..., Any], t0: float, t1: float, **settings: Any
) -> Integral:
    """The work of a gradient field along a path, int <grad V(r), r'> dt; by the gradient theorem V(r(t1)) - V(r(t0)).

    Arguments as for `line_integral`; potential: place -> number.

    Example:
      >>> line = lambda t: jnp.stack([t, 2 * t])
      >>> round(float(integrals.potential_difference(lambda r: r[0] * r[1], line, 0.0, 1.0).value), 6)
      2.0
    """
    arguments.function("potential", potential)
    return line_integral(jax.grad(potential), path, t0, t1, **settings)


class Attribution(NamedTuple):
    """Shares of f(x) - f(baseline), one per input.

    Attributes:
      attributions: the structure of x.
      gap: sum of attributions - (f(x) - f(baseline)): 0 by completeness if the integral is exact.
      converged: |gap| <= tolerance times the scale |f(x)| + |f(baseline)|, and the attributions have settled.
      change: the difference that is left between panels and their halves, summed over the path.
      steps: gradients taken along the path.
      reason: why not converged; empty if it is.
    """

    attributions: PyTree
    gap: Array
    converged: bool
    change: float
    steps: int
    reason: str


def integrated_gradients(
    f: Callable[..., Any],
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    tolerance: float = 1e-6,
    steps: int = 96,
    most_steps: int = 2**14,
) -> Attribution:
    r"""Integrated gradients: what each input contributes to f(x) - f(baseline).

        a_i = (x_i - x'_i) int_0^1 df/dx_i (x' + t (x - x')) dt,        sum_i a_i = f(x) - f(x')

    The path is cut into panels, and a panel is halved until Gauss's rule on its halves agrees with the rule on the
    whole: a ReLU network's gradient jumps along the path, and the jumps are closed in by bisection.

    Args:
      f: x -> real number.
      x: an array or pytree of floating numbers.
      baseline: x', the structure and shapes of x; zeros by default.
      tolerance: relative to |f(x)| + |f(x')|.
      steps, most_steps: gradients along the path, at first and at most.
    Returns:
      Attribution.
    Raises:
      ValueError: the baseline's structure or shapes differ from x's.  TypeError: f does not return one real number.
    Kinks: the gradient at a kink is JAX's; a path crosses a kink at single points, which have measure zero.
    Source: Sundararajan, Taly and Yan 2017.
    Example:
      >>> print(
      ...     np.asarray(
      ...         integrals.integrated_gradients(
      ...             lambda v: v[0] * v[1] ** 2, jnp.array([2.0, 3.0])
      ...         ).attributions
      ...     ).round(3)
      ... )
      [ 6. 12.]
    """
    arguments.function("f", f)
    allowed = definite.tolerance("tolerance", tolerance)
    steps, most_steps = arguments.integer("steps", steps, COST), arguments.integer("most_steps", most_steps, COST)
    baseline = tree.zeros_like(x) if baseline is None else baseline
    _alike(x, baseline)
    _one_number(f, x)
    ends = jnp.asarray(f(x)), jnp.asarray(f(baseline))
    scale = float(jnp.abs(ends[0]) + jnp.abs(ends[1]))
    settled = max(allowed / 256, 4 * float(jnp.finfo(ends[0].dtype).eps)) * scale
    total, change, used = _along(_panels(f, x, baseline), tree.zeros_like(x), settled, steps, most_steps)
    found = jax.tree_util.tree_map(jnp.multiply, tree.subtract(x, baseline), total)
    gap = sum((jnp.sum(leaf) for leaf in jax.tree_util.tree_leaves(found)), start=jnp.zeros_like(ends[0]))
    gap = gap - (ends[0] - ends[1])
    converged = bool(jnp.abs(gap) <= allowed * scale) and change <= allowed * scale
    reason = "" if converged else _why(float(gap), change, allowed * scale, used)
    return Attribution(found, gap, converged, change, used, reason)


PANELS = 8  # handed to the compiled program at once
NODES = 4  # on a panel; a panel is judged by the same rule on its halves
COST = 3 * NODES


def _panels(f: Callable[..., Any], x: PyTree, baseline: PyTree) -> Callable[..., Any]:
    """(left, right) (PANELS,) -> the mean gradient on the halves times the length, and how far the whole is from it."""
    unit, weight = rules.gauss(NODES)
    apart = tree.subtract(x, baseline)
    places = np.concatenate([unit / 2, (1 + unit) / 2, unit])
    into = np.stack(
        [np.concatenate([weight / 2, weight / 2, 0 * weight]), np.concatenate([0 * unit, 0 * unit, weight])]
    )

    @jax.jit
    def run(left, right):
        def place(t):
            return jax.tree_util.tree_map(lambda b, d: b + t.astype(d.dtype) * d, baseline, apart)

        gradient = lambda t: jax.grad(f)(place(t))

        def one(ends):
            start, length = ends[0], ends[1] - ends[0]
            g = jax.vmap(gradient)(start + length * jnp.asarray(places, start.dtype))
            mean = lambda leaf, w: length.astype(leaf.dtype) * jnp.tensordot(jnp.asarray(w, leaf.dtype), leaf, 1)
            halves, whole = (jax.tree_util.tree_map(lambda leaf, w=w: mean(leaf, w), g) for w in into)
            moved = jax.tree_util.tree_map(
                lambda h, w, d: jnp.max(jnp.abs((h - w) * d), initial=0.0), halves, whole, apart
            )
            leaves = [leaf.astype(start.dtype) for leaf in jax.tree_util.tree_leaves(moved)]
            # completeness on the panel: what sits between its end and the node nearest to it shows here only
            parts = jax.tree_util.tree_map(lambda h, d: jnp.sum(h * d).astype(start.dtype), halves, apart)
            gap = sum(jax.tree_util.tree_leaves(parts)) - (f(place(ends[1])) - f(place(ends[0]))).astype(start.dtype)
            return halves, jnp.max(jnp.stack([*leaves, jnp.abs(gap)]))

        return jax.lax.map(one, (left, right))

    return run


def _along(panels: Callable[..., Any], total: PyTree, settled: float, steps: int, most_steps: int):
    """(the gradient's mean along the path, a bound on what is unsettled, gradients taken): unsettled panels halved."""
    ends = np.linspace(0.0, 1.0, max(1, steps // COST) + 1)
    left, right = ends[:-1], ends[1:]
    unsettled, used = 0.0, 0
    while left.size:
        used += COST * left.size
        full = used + 2 * COST * left.size > most_steps
        split_left, split_right = [], []
        for start in range(0, left.size, PANELS):
            lefts, rights = left[start : start + PANELS], right[start : start + PANELS]
            fill = PANELS - lefts.size  # panels of no length
            means, moved = panels(*(jnp.asarray(np.pad(x, (0, fill), mode="edge")) for x in (lefts, rights)))
            moved = np.asarray(moved)[: lefts.size]
            done = (moved <= settled) | full | (rights - lefts < 1e-12)
            kept = jnp.asarray(np.concatenate([done, np.zeros(fill, bool)]))
            total = jax.tree_util.tree_map(
                lambda t, m, k=kept: t + jnp.tensordot(k.astype(m.dtype), m, 1), total, means
            )
            unsettled += float(moved[done].sum())
            middle = (lefts + rights) / 2
            split_left += [*lefts[~done], *middle[~done]]
            split_right += [*middle[~done], *rights[~done]]
            if not np.all(np.isfinite(moved)):
                return total, np.inf, used
        left, right = np.array(split_left), np.array(split_right)
    return total, unsettled, used


def saliency(f: Callable[..., Any], x: PyTree) -> PyTree:
    """|df/dx_i|: how strongly each input moves f, to first order.  f: x -> real number.  Source: Simonyan 2014.

    Example:
      >>> integrals.saliency(lambda v: jnp.sum(v**3), jnp.array([1.0, -2.0])).tolist()
      [3.0, 12.0]
    """
    arguments.function("f", f)
    return jax.tree_util.tree_map(jnp.abs, jax.grad(f)(x))


class Smoothed(NamedTuple):
    """A mean of gradients with its standard error, entry by entry."""

    gradient: PyTree
    standard_error: PyTree


def smooth_grad(f: Callable[..., Any], x: PyTree, key: Key, *, noise: float, samples: int = 64) -> Smoothed:
    """SmoothGrad: the mean of grad f(x + noise * z), z standard normal.

    It is the gradient of f smoothed by a Gaussian of that width.  Source: Smilkov et al. 2017.

    Example:
      >>> found = integrals.smooth_grad(
      ...     lambda v: jnp.sum(v**2), jnp.array([1.0, 2.0]), jax.random.key(0), noise=0.1, samples=100
      ... )
      >>> bool(jnp.all(jnp.abs(found.gradient - jnp.array([2.0, 4.0])) < 0.1))
      True
    """
    arguments.function("f", f)
    noise, samples = definite.tolerance("noise", noise), arguments.integer("samples", samples, 2)
    key = arguments.key("key", key)
    leaves, structure = jax.tree_util.tree_flatten(x)
    for name, leaf in zip(tree.path_names(x), leaves):
        arguments.floating_leaf(f"x[{name}]" if name else "x", leaf)
    leaves = [jnp.asarray(leaf) for leaf in leaves]

    def one(key):
        keys = jax.random.split(key, max(1, len(leaves)))
        moved = [leaf + noise * jax.random.normal(k, jnp.shape(leaf), leaf.dtype) for leaf, k in zip(leaves, keys)]
        return jax.grad(f)(jax.tree_util.tree_unflatten(structure, moved))

    gradients = jax.vmap(one)(jax.random.split(key, samples))
    mean = jax.tree_util.tree_map(lambda g: jnp.mean(g, axis=0), gradients)
    error = jax.tree_util.tree_map(lambda g: jnp.std(g, axis=0, ddof=1) / samples**0.5, gradients)
    return Smoothed(mean, error)


def _why(gap: float, change: float, allowed: float, steps: int) -> str:
    if not np.isfinite(change):
        return "a gradient along the path is not finite"
    what = f"the gap is {gap:.3g}" if abs(gap) > allowed else f"attributions are settled to {change:.3g} only"
    return f"{what} after {steps} steps, where {allowed:.3g} is allowed"


def _alike(x: PyTree, baseline: PyTree) -> None:
    if jax.tree_util.tree_structure(x) != jax.tree_util.tree_structure(baseline):
        raise ValueError(
            f"baseline: expected the structure of x, {jax.tree_util.tree_structure(x)}, "
            f"got {jax.tree_util.tree_structure(baseline)}"
        )
    names = tree.path_names(x)
    for name, leaf, base in zip(names, jax.tree_util.tree_leaves(x), jax.tree_util.tree_leaves(baseline)):
        if jnp.shape(leaf) != jnp.shape(base):
            where = f"baseline[{name}]" if name else "baseline"
            raise ValueError(f"{where}: expected shape {jnp.shape(leaf)}, got {jnp.shape(base)}")
        arguments.floating_leaf(f"x[{name}]" if name else "x", leaf)


def _one_number(f: Callable[..., Any], x: PyTree) -> None:
    out = jax.eval_shape(f, x)
    if not hasattr(out, "shape") or out.shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"f: expected a function to one real number, it returns {out}")
