"""Penalties on parameters: value, (sub)gradient and proximal map, over pytrees.

w stands for all selected entries of `params` as one vector.  `select` is a predicate on a leaf's path name,
such as lambda name: not name.endswith("bias"); leaves it refuses cost nothing, have gradient 0 and are left
as they are by a proximal map.  A strength alpha stands outside: alpha l1(params) and
prox_l1(params, step * alpha).
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax.tree_util import tree_leaves_with_path
from jax.typing import ArrayLike

from functional_dl.aliases import Array, Params, Scalar
from functional_dl.arguments import floating_leaf, function, number, within
from functional_dl.tree import map_with_name, path_name

__all__ = [
    "Select",
    "elastic_net",
    "gradient_l2",
    "l1",
    "l2",
    "prox_elastic_net",
    "prox_l1",
    "prox_l2",
    "subgradient_elastic_net",
    "subgradient_l1",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


Select = Callable[[str], bool]


def l1(params: Params, *, select: Select | None = None) -> Scalar:
    """|w|_1 = sum_i |w_i|.

    Subgradient: sign(w_i), see `subgradient_l1`; jax.grad takes the same one.

    Args:
      params: pytree of floating arrays.
      select: which leaves, by path name; all by default.
    Returns:
      Scalar, in the widest dtype among the selected leaves; 0 where none is.
    Raises:
      TypeError: a selected leaf is not floating.
    Kinks: at w_i = 0, -1 and 1; taken: 0 (jnp.abs takes 1).
    Source: Tibshirani 1996.
    Example:
      >>> float(penalties.l1({"weight": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}))
      6.0
    """
    return _total(params, select, lambda w: jnp.sum(jnp.where(w == 0, 0.0, jnp.abs(w))))


def l2(params: Params, *, select: Select | None = None) -> Scalar:
    """|w|_2^2 = sum_i w_i^2: the sum of squares, no half and no root.

    Gradient: 2 w.

    Args, returns, errors: as `l1`.  Kinks: none.
    Source: Hoerl and Kennard 1970.
    Example:
      >>> float(penalties.l2(jnp.array([1.0, -2.0])))
      5.0
    """
    return _total(params, select, lambda w: jnp.sum(jnp.square(w)))


def elastic_net(params: Params, l1_ratio: ArrayLike, *, select: Select | None = None) -> Scalar:
    """rho |w|_1 + (1 - rho) |w|_2^2 with rho = l1_ratio, without a half at the square.

    scikit-learn's ElasticNet has alpha' (rho' |w|_1 + (1 - rho') |w|_2^2 / 2): alpha times ours where
    alpha rho = alpha' rho' and alpha (1 - rho) = alpha' (1 - rho') / 2.

    Args:
      params, select: as `l1`.
      l1_ratio: rho in [0, 1].
    Raises:
      ValueError: l1_ratio (where concrete) lies outside [0, 1].  TypeError: as `l1`.
    Kinks: as `l1`.
    Source: Zou and Hastie 2005.
    Example:
      >>> float(penalties.elastic_net(jnp.array([1.0, -2.0]), 0.5))
      4.0
    """
    rho = _ratio(l1_ratio)
    absolute, squares = l1(params, select=select), l2(params, select=select)
    return _as(rho, absolute) * absolute + _as(1 - rho, squares) * squares


def subgradient_l1(params: Params, *, select: Select | None = None) -> Params:
    """The subgradient of least norm of |w|_1: sign(w_i), 0 at 0.  Leaves that are not selected: 0.

    Example:
      >>> penalties.subgradient_l1(jnp.array([3.0, 0.0, -1.0])).tolist()
      [1.0, 0.0, -1.0]
    """
    return _map(params, select, jnp.sign, jnp.zeros_like)


def gradient_l2(params: Params, *, select: Select | None = None) -> Params:
    """The gradient of |w|_2^2: 2 w.  Leaves that are not selected: 0.

    Example:
      >>> penalties.gradient_l2(jnp.array([1.0, -2.0])).tolist()
      [2.0, -4.0]
    """
    return _map(params, select, lambda w: 2 * w, jnp.zeros_like)


def subgradient_elastic_net(params: Params, l1_ratio: ArrayLike, *, select: Select | None = None) -> Params:
    """A subgradient of rho |w|_1 + (1 - rho) |w|_2^2: rho sign(w) + 2 (1 - rho) w.

    Raises:
      ValueError: l1_ratio (where concrete) lies outside [0, 1].
    Example:
      >>> penalties.subgradient_elastic_net(jnp.array([3.0, 0.0]), 0.5).tolist()
      [3.5, 0.0]
    """
    rho = _ratio(l1_ratio)
    return _map(params, select, lambda w: _as(rho, w) * jnp.sign(w) + _as(2 * (1 - rho), w) * w, jnp.zeros_like)


def prox_l1(params: Params, step: ArrayLike, *, select: Select | None = None) -> Params:
    """Soft thresholding: argmin_u step |u|_1 + |u - w|_2^2 / 2, u_i = sign(w_i) max(|w_i| - step, 0).

    Args:
      params: w, pytree of floating arrays.
      step: >= 0, the step length times the penalty's strength; may be traced.
      select: which leaves, by path name.
    Returns:
      u, structure and dtypes of params.
    Raises:
      ValueError: step (where concrete) is negative.  TypeError: a selected leaf is not floating.
    Numerics: entries with |w_i| <= step become 0 exactly.
    Source: Beck and Teboulle 2009; Parikh and Boyd 2014, section 6.5.2.
    Example:
      >>> penalties.prox_l1(jnp.array([3.0, 0.2]), 0.5).tolist()
      [2.5, 0.0]
    """
    step = _step(step)
    return _map(params, select, lambda w: _soft_threshold(w, _as(step, w)))


def prox_l2(params: Params, step: ArrayLike, *, select: Select | None = None) -> Params:
    """Shrinkage: argmin_u step |u|_2^2 + |u - w|_2^2 / 2 = w / (1 + 2 step).

    Args, returns, errors: as `prox_l1`.
    Source: Parikh and Boyd 2014, section 6.1.1.
    Example:
      >>> print(np.asarray(penalties.prox_l2(jnp.array([3.0, -0.6]), 1.0)).round(4))
      [ 1.  -0.2]
    """
    step = _step(step)
    return _map(params, select, lambda w: w / (1 + 2 * _as(step, w)))


def prox_elastic_net(params: Params, step: ArrayLike, l1_ratio: ArrayLike, *, select: Select | None = None) -> Params:
    """argmin_u step (rho |u|_1 + (1 - rho) |u|_2^2) + |u - w|_2^2 / 2.

    The argmin is w thresholded by step rho as in `prox_l1`, then divided by 1 + 2 step (1 - rho).

    Args, returns, errors: as `prox_l1`; l1_ratio = rho in [0, 1], else ValueError.
    Source: Parikh and Boyd 2014, section 6.5.3.
    Example:
      >>> penalties.prox_elastic_net(jnp.array([3.0, 0.2]), 1.0, 0.5).tolist()
      [1.25, 0.0]
    """
    step, rho = _step(step), _ratio(l1_ratio)

    def prox(w: Array) -> Array:
        return _soft_threshold(w, _as(step * rho, w)) / (1 + _as(2 * step * (1 - rho), w))

    return _map(params, select, prox)


def _soft_threshold(w: Array, threshold: Array) -> Array:
    return jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0.0)


def _selected(name: str, leaf, select: Select | None) -> bool:
    """Whether the leaf counts; a leaf that counts has to be floating."""
    if select is not None and not select(name):
        return False
    floating_leaf(f"params[{name}]" if name else "params", leaf)
    return True


def _map(params: Params, select: Select | None, fun, otherwise=lambda w: w) -> Params:
    _predicate(select)

    def leaf_map(name, leaf):
        return fun(jnp.asarray(leaf)) if _selected(name, leaf, select) else otherwise(leaf)

    return map_with_name(leaf_map, params)


def _predicate(select: Select | None) -> None:
    if select is not None:
        function("select", select)


def _total(params: Params, select: Select | None, fun) -> Scalar:
    _predicate(select)
    named = ((path_name(path), leaf) for path, leaf in tree_leaves_with_path(params))
    terms = [fun(jnp.asarray(leaf)) for name, leaf in named if _selected(name, leaf, select)]
    if not terms:
        return jnp.zeros(())
    # The widest dtype is chosen here, since strict promotion would refuse to mix bfloat16 and float32 leaves.
    widest = max((term.dtype for term in terms), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.stack([term.astype(widest) for term in terms]).sum()


def _as(number, like: Array) -> Array:
    """A number in the dtype of `like`."""
    return jnp.asarray(number).astype(like.dtype)


def _step(step):
    within("step", number("step", step), 0.0, jnp.inf)
    return step


def _ratio(l1_ratio):
    within("l1_ratio", number("l1_ratio", l1_ratio), 0.0, 1.0)
    return l1_ratio
