"""Lengths, areas and volumes as integrals.  Curves are functions of JAX operations; bounds are concrete."""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.integrals import definite, host, substitution
from functional_dl.integrals.definite import integrate
from functional_dl.integrals.integrand import PLACE, jax_function
from functional_dl.integrals.result import Integral
from functional_dl.precision import double

Axis: TypeAlias = Literal["x", "y"] | str  # or a line parallel to one, as "y=2"
LINES = {"x": ("y", 0.0), "y": ("x", 0.0)}  # an axis -> the line it is: x is y = 0

SAMPLES = 4096
MOST_CROSSINGS = 64  # with more, the subdivision is left to find them


def area_under(f: Callable[..., Any], a: ArrayLike, b: ArrayLike, **settings: Any) -> Integral:
    """The area between the graph of f and the x axis, int |f|: pieces below the axis count as areas too.

    (The integral itself, which counts them negative, is `integrate`.)  Arguments as for `area_between`.

    Example:
      >>> round(float(integrals.area_under(jnp.sin, 0.0, 2 * jnp.pi).value), 6)
      4.0
    """
    return area_between(f, lambda x: jnp.zeros_like(x), a, b, **settings)


def area_between(f: Callable[..., Any], g: Callable[..., Any], a: ArrayLike, b: ArrayLike, **settings: Any) -> Integral:
    """The area between two graphs, int_a^b |f - g|: where they cross, every piece counts as positive.

    Args:
      f, g: number -> real number.
      a, b: numbers, in either order; may be infinite.
      settings: as for `integrate`.
    Returns:
      Integral.  The crossings, found among 4096 places and by bisection, are break points of the integration.
    Example:
      >>> round(float(integrals.area_between(lambda x: x, lambda x: x**2, 0.0, 1.0).value), 6)
      0.166667
    """
    f = jax_function("f", f, PLACE)
    g = jax_function("g", g, PLACE)
    a, b = _ordered(a, b)
    gap = lambda x: _real("f", f(x)) - _real("g", g(x))
    settings.setdefault("points", crossings(gap, a, b))
    return integrate(lambda x: jnp.abs(gap(x)), a, b, **settings)


def crossings(h: Callable[..., Any], a: ArrayLike, b: ArrayLike) -> list[float]:
    """Places between a and b where h changes its sign, found by bisection between 4096 samples; [] if very many."""
    with double():
        x, values = _samples(h, a, b)
        change = np.flatnonzero((np.sign(values[:-1]) * np.sign(values[1:])) < 0)
        zeros = [float(place) for place, value in zip(x, values) if value == 0 and a < place < b]
        if change.size + len(zeros) > MOST_CROSSINGS:
            return []
        low, high, at_low = x[change], x[change + 1], np.sign(values[change])
        sampler = host.Sampler(lambda x: jnp.asarray(h(x), jnp.float64)[None], 1)
        for _ in range(64 if change.size else 0):
            middle = low + (high - low) / 2
            same = np.sign(sampler(middle)[:, 0]) == at_low
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        return sorted({float(x) for x in (low + high) / 2} | set(zeros))


def volume_by_cross_sections(area: Callable[..., Any], a: ArrayLike, b: ArrayLike, **settings: Any) -> Integral:
    """The volume of a solid whose cross-section at x has the area A(x): int_a^b A(x) dx.

    Args:
      area: number -> area, not negative.
      a, b: numbers, in either order.
    Raises:
      ValueError: an area is negative.
    Example:
      >>> round(float(integrals.volume_by_cross_sections(lambda x: jnp.pi * (1 - x**2), -1.0, 1.0).value), 6)
      4.18879
    """
    area = jax_function("area", area, PLACE)
    a, b = _ordered(a, b)
    with double():
        x, values = _samples(area, a, b)
    if np.any(values < 0):
        raise ValueError(f"area: expected areas >= 0, got {values.min():g} at x = {x[np.argmin(values)]:g}")
    return integrate(area, a, b, **settings)


def volume_of_revolution(
    f: Callable[..., Any],
    a: ArrayLike,
    b: ArrayLike,
    axis: Axis = "x",
    *,
    inner: Callable[..., Any] | None = None,
    **settings: Any,
) -> Integral:
    r"""The volume swept by the region between a graph and the x axis (or between two graphs), turned about a line.

        about y = c, discs and washers:  pi int_a^b |(f - c)^2 - (inner - c)^2| dx
        about x = c, shells:           2 pi int_a^b |x - c| |f - inner| dx

    Args:
      f: number -> real number: one boundary of the region.
      a, b: its ends on the x axis, in either order.
      axis: "x" (the line y = 0), "y" (the line x = 0), or a line such as "y=2" or "x=-1".
      inner: the other boundary; the x axis by default.
    Raises:
      ValueError: another axis; the axis cuts the region, so that turning it sweeps a part twice.
    Source: the disc, washer and shell methods of any calculus text.
    Example:
      >>> round(float(integrals.volume_of_revolution(jnp.sqrt, 0.0, 4.0).value), 6)
      25.132741
    """
    f = jax_function("f", f, PLACE)
    across, c = _axis(axis)
    a, b = _ordered(a, b)
    base = inner if inner is not None else lambda x: jnp.zeros_like(x)
    base = jax_function("inner", base, PLACE)
    outer_at, inner_at = lambda x: _real("f", f(x)), lambda x: _real("inner", base(x))
    if across == "x":
        _beside(a, b, c, axis)
        element = lambda x: 2 * jnp.pi * jnp.abs(x - c) * jnp.abs(outer_at(x) - inner_at(x))
    else:
        _one_side(outer_at, inner_at, a, b, c, axis)
        element = lambda x: jnp.pi * jnp.abs((outer_at(x) - c) ** 2 - (inner_at(x) - c) ** 2)
    settings.setdefault("points", crossings(lambda x: outer_at(x) - inner_at(x), a, b))
    return integrate(element, a, b, **settings)


def arc_length(curve: Callable[..., Any], a: ArrayLike, b: ArrayLike, **settings: Any) -> Integral:
    r"""The length of a curve.

        a graph y = f(x):           int_a^b sqrt(1 + f'(x)^2) dx
        a curve t -> (x, y, ...):   int_a^b |curve'(t)| dt

    Args:
      curve: number -> real number (a graph), or number -> vector of shape (n,) or complex number (a curve).
      a, b: numbers, in either order.
    Example:
      >>> round(float(integrals.arc_length(lambda t: jnp.stack([3 * t, 4 * t]), 0.0, 1.0).value), 6)
      5.0
    """
    a, b = _ordered(a, b)
    return integrate(_speed("curve", curve), a, b, **settings)


def surface_of_revolution(
    curve: Callable[..., Any], a: ArrayLike, b: ArrayLike, axis: Axis = "x", **settings: Any
) -> Integral:
    r"""The area swept by a curve turned about a line: 2 pi int distance(axis) ds.

    Args:
      curve: number -> real number, the graph y = f(x); or t -> (x, y), a vector of shape (2,).
      a, b: numbers, in either order.
      axis: as for `volume_of_revolution`.
    Example:
      >>> round(float(integrals.surface_of_revolution(lambda x: x, 0.0, 1.0).value), 6)
      4.442883
    """
    across, c = _axis(axis)
    a, b = _ordered(a, b)
    speed = _speed("curve", curve)

    def element(t):
        place = jnp.asarray(curve(t))
        x, y = (t, place) if place.shape == () else (place[0], place[1])
        return 2 * jnp.pi * jnp.abs((x if across == "x" else y) - c) * speed(t)

    settings.setdefault("points", [])
    return integrate(element, a, b, **settings)


class Centroid(NamedTuple):
    """Where a plane region balances."""

    x: Integral
    y: Integral
    area: Integral


def centroid(
    f: Callable[..., Any], a: ArrayLike, b: ArrayLike, *, inner: Callable[..., Any] | None = None, **settings: Any
) -> Centroid:
    r"""The centroid of the region between two graphs, f >= inner (the x axis without `inner`).

        A = int (f - g),   x = int x (f - g) / A,   y = int (f^2 - g^2) / (2 A)

    Raises:
      ValueError: f < inner somewhere, or the area is 0.
    Example:
      >>> balance = integrals.centroid(lambda x: x, 0.0, 1.0)
      >>> round(float(balance.x.value), 6), round(float(balance.y.value), 6)
      (0.666667, 0.333333)
    """
    f = jax_function("f", f, PLACE)
    a, b = _ordered(a, b)
    base = inner if inner is not None else lambda x: jnp.zeros_like(x)
    with double():
        x, height = _samples(lambda x: _real("f", f(x)) - _real("inner", base(x)), a, b)
    if np.any(height < -1e-12 * np.max(np.abs(height))):
        raise ValueError(f"f: expected f >= inner, got f - inner = {height.min():g} at x = {x[np.argmin(height)]:g}")

    def moments(x):
        top, bottom = _real("f", f(x)), _real("inner", base(x))
        return {"area": top - bottom, "x": x * (top - bottom), "y": (top**2 - bottom**2) / 2}

    found = integrate(moments, a, b, **settings)
    area, area_error = found.value["area"], found.error["area"]
    if not float(area) > 0:
        raise ValueError(f"f: expected a region with an area, got area {float(area):g}")
    pick = lambda value, error: Integral(value, error, found.converged, found.code, found.at, found.evaluations)
    ratio = lambda name: pick(
        found.value[name] / area, (found.error[name] + abs(found.value[name] / area) * area_error) / area
    )
    return Centroid(ratio("x"), ratio("y"), pick(area, area_error))


def _speed(name: str, curve: Callable[..., Any]) -> Callable[..., Any]:
    """t -> length of curve per t; a graph y = f(x) is the curve (x, f(x))."""
    curve = jax_function(name, curve, PLACE)

    def speed(t):
        value, rate = jax.jvp(lambda t: jnp.asarray(curve(t)), (t,), (jnp.ones_like(t),))
        if value.ndim > 1:
            raise ValueError(f"{name}: expected a number or a vector of shape (n,), got shape {value.shape}")
        if value.ndim == 0 and not jnp.iscomplexobj(value):
            return jnp.hypot(jnp.ones_like(rate), rate)
        squares = jnp.sum(jnp.square(jnp.abs(jnp.atleast_1d(rate))))
        return jnp.sqrt(squares)

    return speed


def _axis(axis) -> tuple[str, float]:
    """("x", c) for the line x = c, ("y", c) for y = c."""
    if isinstance(axis, str) and axis in LINES:
        return LINES[axis]
    match = re.fullmatch(r"\s*([xy])\s*=\s*(\S+)\s*", axis) if isinstance(axis, str) else None
    try:
        return match.group(1), float(match.group(2))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        message = f"axis: expected 'x', 'y' or a line such as 'y=2', got {arguments.described(axis)}"
        raise (ValueError if isinstance(axis, str) else TypeError)(message) from None


def _beside(a, b, c, axis) -> None:
    if a < c < b:
        raise ValueError(f"axis: expected a line that does not cut the region over [{a:g}, {b:g}], got {axis!r}")


def _one_side(f, g, a, b, c, axis) -> None:
    with double():
        x, product = _samples(lambda x: (f(x) - c) * (g(x) - c), a, b)
        _, size = _samples(lambda x: jnp.square(f(x) - g(x)), a, b)
    if np.any(product < -1e-12 * size):
        at = x[np.argmin(product)]
        raise ValueError(f"axis: expected a line that does not cut the region, got {axis!r}, which does at x = {at:g}")


def _ordered(a, b) -> tuple[float, float]:
    """Two concrete numbers, the smaller one first: lengths, areas and volumes have no direction."""
    found = []
    for name, value in (("a", a), ("b", b)):
        with double():
            number = definite.bound(name, value)
        if isinstance(number, jax.core.Tracer):
            raise TypeError(f"{name}: expected a concrete number, got a traced one; `integrate` takes traced bounds")
        found.append(float(number))
    return min(found), max(found)


def _samples(h: Callable[..., Any], a: Any, b: Any) -> tuple[Any, Any]:
    """Places between a and b, increasing, and the values there; places without a finite value are left out."""
    span = substitution.Range(np.float64(a), np.float64(b), np)
    parts = (np.arange(SAMPLES) + 0.5) / SAMPLES
    if np.isfinite(a) and np.isfinite(b):
        x = a + (b - a) * parts
    else:
        x, _, _ = substitution.to_x(span, -3.0 + 6.0 * parts)
    values = host.Sampler(lambda x: jnp.asarray(h(x), jnp.float64)[None], 1)(x)[:, 0]
    good = np.isfinite(values)
    return x[good], values[good]


def _real(name: str, value):
    value = jnp.asarray(value)
    if value.shape != () or jnp.iscomplexobj(value):
        raise ValueError(f"{name}: expected one real number, got shape {value.shape} of {value.dtype}")
    return value.astype(jnp.float64)
