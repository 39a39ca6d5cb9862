r"""Projections: the point of a convex set that is nearest to x, each derived from its KKT conditions.

    P(x) = argmin_z |z - x|^2 / 2  subject to  z in C.

A vector is the last axis; axes before it are a batch.  All run under jit, vmap and differentiation; on the boundary of
the set the derivative is one of the two sides'.  Source: Parikh and Boyd 2014, Proximal Algorithms, 6.2-6.3.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array

__all__ = [
    "affine",
    "box",
    "half_space",
    "hyperplane",
    "l1_ball",
    "l2_ball",
    "linf_ball",
    "nonnegative",
    "second_order_cone",
    "simplex",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def nonnegative(x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """{z: z >= 0}.  L = |z - x|^2 / 2 - mu z, z - x = mu >= 0, mu z = 0  =>  z = max(x, 0), mu = max(-x, 0).

    Example:
      >>> optimality.projections.nonnegative(jnp.array([0.5, -1.0])).tolist()
      [0.5, 0.0]
    """
    x = arguments.real("x", x)
    return jnp.maximum(x, jnp.zeros((), x.dtype))


def box(x: Float[Array, "*batch n"], lower: ArrayLike, upper: ArrayLike) -> Float[Array, "*batch n"]:
    """{z: l <= z <= u}.  Each entry has its own problem: z = x where that is allowed (both multipliers 0), else the
    violated bound, whose multiplier is the distance.

    Args:
      lower, upper: numbers or arrays that broadcast to x; -inf and inf for none.
    Raises:
      ValueError: lower > upper somewhere (where concrete).
    Example:
      >>> optimality.projections.box(jnp.array([0.5, 2.0, -1.0]), -0.5, 1.0).tolist()
      [0.5, 1.0, -0.5]
    """
    x = arguments.real("x", x)
    lower, upper = (arguments.real(name, bound).astype(x.dtype) for name, bound in (("lower", lower), ("upper", upper)))
    low, high = arguments.concrete(lower), arguments.concrete(upper)
    if low is not None and high is not None and not (low <= high).all():
        raise ValueError(f"lower, upper: expected lower <= upper, got lower {low} and upper {high}")
    return jnp.minimum(jnp.maximum(x, jnp.broadcast_to(lower, x.shape)), jnp.broadcast_to(upper, x.shape))


def hyperplane(x: Float[Array, "*batch n"], normal: Float[Array, " n"], offset: ArrayLike) -> Float[Array, "*batch n"]:
    """{z: a . z = b}.  z - x + lam a = 0 and a . z = b  =>  lam = (a . x - b) / |a|^2, z = x - lam a.

    Example:
      >>> optimality.projections.hyperplane(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]), 1.0).round(4).tolist()
      [0.0, 1.0]
    """
    x, normal, offset = _plane(x, normal, offset)
    normal, offset = _unit(normal, offset)
    return x - (x @ normal - offset)[..., None] * _spread(normal, x)


def half_space(x: Float[Array, "*batch n"], normal: Float[Array, " n"], offset: ArrayLike) -> Float[Array, "*batch n"]:
    """{z: a . z <= b}.  As `hyperplane` with mu = max(a . x - b, 0) / |a|^2: a point inside stays (mu = 0).

    Example:
      >>> optimality.projections.half_space(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]), 1.0).round(4).tolist()
      [0.0, 1.0]
    """
    x, normal, offset = _plane(x, normal, offset)
    normal, offset = _unit(normal, offset)
    excess = jnp.maximum(x @ normal - offset, jnp.zeros((), x.dtype))
    return x - excess[..., None] * _spread(normal, x)


def affine(x: Float[Array, "*batch n"], matrix: Float[Array, "m n"], right: Float[Array, " m"]) -> Array:
    """{z: A z = b}.  z - x + A' lam = 0 and A z = b  =>  A A' lam = A x - b, z = x - A' lam.

    Numerics: by the pseudo-inverse of A, so that rows may depend on each other; if A z = b has no solution, the
    nearest point of {z: A z = b's nearest attainable right-hand side}.
    Example:
      >>> optimality.projections.affine(
      ...     jnp.array([1.0, 2.0]), jnp.array([[1.0, 1.0]]), jnp.array([1.0])
      ... ).round(4).tolist()
      [0.0, 1.0]
    """
    x, matrix, right = arguments.real("x", x), arguments.real("matrix", matrix), arguments.real("right", right)
    if matrix.ndim != 2 or x.shape[-1:] != matrix.shape[1:] or right.shape != matrix.shape[:1]:
        raise ValueError(
            f"matrix, right: expected shapes (m, {x.shape[-1] if x.ndim else '?'}) and (m,), got {matrix.shape} and "
            f"{right.shape}"
        )
    inverse = jnp.linalg.pinv(matrix.astype(x.dtype))
    residual = x @ matrix.astype(x.dtype).T
    residual = residual - jnp.broadcast_to(right.astype(x.dtype), residual.shape)
    return x - residual @ inverse.T


def simplex(x: Float[Array, "*batch n"], total: ArrayLike = 1.0) -> Float[Array, "*batch n"]:
    """{z: z >= 0, sum z = s}.

    z - x + lam - mu = 0, mu >= 0, mu z = 0  =>  z = max(x - lam, 0), and lam solves sum max(x - lam, 0) = s.  With the
    entries sorted, x_(1) >= x_(2) >= ..., the k largest are positive where k is the last with
    x_(k) > (sum_{i<=k} x_(i) - s) / k, and lam is that quotient at k.

    Args:
      total: s > 0.
    Raises:
      ValueError: total (where concrete) is not positive.
    Source: Held, Wolfe, Crowder 1974; Duchi et al. 2008.
    Example:
      >>> optimality.projections.simplex(jnp.array([1.0, 0.5])).round(4).tolist()
      [0.75, 0.25]
    """
    x = arguments.real("x", x)
    total = _positive("total", total, x)
    # entries far below the greatest would lose s to rounding in sums of it: the projection is that of x - max x
    x = x - jnp.max(x, -1, keepdims=True)
    return jnp.maximum(x - _threshold(x, total)[..., None], jnp.zeros((), x.dtype))


def l1_ball(x: Float[Array, "*batch n"], radius: ArrayLike = 1.0) -> Float[Array, "*batch n"]:
    """{z: |z|_1 <= r}.  A point inside stays; of one outside, |z| is the projection of |x| onto the simplex of sum r,
    and signs stay: 0 in z - x + mu d|z|_1 gives z = sign(x) max(|x| - mu, 0).  Source: Duchi et al. 2008.

    Example:
      >>> print(np.asarray(optimality.projections.l1_ball(jnp.array([2.0, 0.5]), 1.0)).round(4))
      [1. 0.]
    """
    x = arguments.real("x", x)
    radius = _positive("radius", radius, x)
    size = jnp.abs(x)
    top = jnp.max(size, -1, keepdims=True, initial=0.0)
    within = jnp.sum(size / _or_one(top), -1) <= radius / _or_one(top)[..., 0]
    shrunk = jnp.maximum(size - top - _threshold(size - top, radius)[..., None], jnp.zeros((), x.dtype))
    return jnp.where(within[..., None], x, jnp.sign(x) * shrunk)


def l2_ball(x: Float[Array, "*batch n"], radius: ArrayLike = 1.0) -> Float[Array, "*batch n"]:
    """{z: |z|_2 <= r}.  z - x + mu z / |z| = 0  =>  z is parallel to x: z = x min(1, r / |x|).

    Example:
      >>> print(np.asarray(optimality.projections.l2_ball(jnp.array([3.0, 4.0]), 1.0)).round(4))
      [0.6 0.8]
    """
    x = arguments.real("x", x)
    radius = _positive("radius", radius, x)
    top = _or_one(jnp.max(jnp.abs(x), -1, keepdims=True, initial=0.0))  # squares of x / top neither overflow nor vanish
    unit = x / top
    square = jnp.sum(unit**2, -1, keepdims=True)
    length = jnp.sqrt(jnp.where(square > 0, square, jnp.ones((), x.dtype)))  # no root of 0 to differentiate
    return jnp.where(length > radius / top, unit * (radius / length), x)


def linf_ball(x: Float[Array, "*batch n"], radius: ArrayLike = 1.0) -> Float[Array, "*batch n"]:
    """{z: max |z_i| <= r}: the box [-r, r].

    Example:
      >>> optimality.projections.linf_ball(jnp.array([0.5, 2.0, -3.0]), 1.0).tolist()
      [0.5, 1.0, -1.0]
    """
    x = arguments.real("x", x)
    radius = _positive("radius", radius, x)
    return jnp.clip(x, -radius, radius)


def second_order_cone(x: Float[Array, "*batch n"], t: Float[Array, "*batch"]) -> tuple[Array, Array]:
    """{(z, s): |z|_2 <= s}, a pair (z, s).

    The cone is its own dual, so (x, t) stays where |x| <= t, goes to 0 where |x| <= -t (the polar cone), and else to
    the boundary along ((1 + t / |x|) / 2) (x, |x|): z - x = -mu z / |z|, s - t = mu and |z| = s give
    mu = (|x| - t) / 2.

    Example:
      >>> x, t = optimality.projections.second_order_cone(jnp.array([3.0, 4.0]), 0.0)
      >>> x.round(4).tolist(), round(float(t), 4)
      ([1.5, 2.0], 2.5)
    """
    x, t = arguments.real("x", x), arguments.real("t", t)
    if x.shape[:-1] != t.shape:
        raise ValueError(f"x, t: expected t of shape {x.shape[:-1]}, got {t.shape}")
    top = _or_one(jnp.max(jnp.abs(x), -1, initial=0.0))
    square = jnp.sum((x / top[..., None]) ** 2, -1)
    length = top * jnp.sqrt(jnp.where(square > 0, square, jnp.ones((), x.dtype)))
    length = jnp.where(square > 0, length, jnp.zeros((), x.dtype))
    inside, polar = length <= t, length <= -t
    share = (1 + t / jnp.where(length > 0, length, jnp.ones((), x.dtype))) / 2
    z = jnp.where(inside[..., None], x, jnp.where(polar[..., None], jnp.zeros((), x.dtype), share[..., None] * x))
    return z, jnp.where(inside, t, jnp.where(polar, jnp.zeros((), x.dtype), share * length))


def _or_one(top):
    return jnp.where(top > 0, top, jnp.ones((), top.dtype))


def _unit(normal, offset):
    """The plane with a normal of length 1, whose squares neither overflow nor vanish on the way."""
    top = jnp.max(jnp.abs(normal))
    length = jnp.sqrt(jnp.sum((normal / top) ** 2))
    return normal / top / length, offset / top / length


def _threshold(x, total):
    """lam with sum max(x - lam, 0) = total."""
    falling = -jnp.sort(-x, axis=-1)
    counts = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    levels = (jnp.cumsum(falling, -1) - total) / _spread(counts, x)
    last = jnp.sum(falling > levels, -1, keepdims=True) - 1
    return jnp.take_along_axis(levels, last, -1)[..., 0]


def _plane(x, normal, offset):
    x, normal = arguments.real("x", x), arguments.real("normal", normal)
    if normal.ndim != 1 or x.shape[-1:] != normal.shape:
        raise ValueError(f"normal: expected shape {x.shape[-1:]}, got {normal.shape}")
    values = arguments.concrete(normal)
    if values is not None and not values.any():
        raise ValueError("normal: expected a vector other than 0, got 0")
    return x, normal.astype(x.dtype), arguments.real("offset", offset).astype(x.dtype)


def _positive(name, value, x):
    value = arguments.real(name, value).astype(x.dtype)
    arguments.positive(name, value)
    return value


def _spread(vector, x):
    """A vector as an array of x's rank."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
