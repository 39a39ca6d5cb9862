"""Normalisation of features: to mean 0 and variance 1, or to mean square 1."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import array, entry, floating_dtype, integer, number, real, shaped, within
from functional_dl.layers.layer import Layer, StatefulLayer
from functional_dl.precision import of_sums
from functional_dl.sharding import broadcast_like, laid_along


def standardize(x: Float[Array, "..."], axis: int | Sequence[int] = -1, epsilon: float = 1e-5) -> Float[Array, "..."]:
    """y = r (x - mean x),  r = 1 / sqrt(var x + epsilon), mean and (biased) variance over the axes: layer norm's core.

    dy = r (dx - mean dx - y mean(y dx)), symmetric in dx  =>  x_bar = r (y_bar - mean y_bar - y mean(y y_bar)).
    The rule reads y and r alone, and is one pass over the cotangent where x and its mean would be read again.

    Args:
      x: any shape, floating.
      axis: an axis or several, over which moments are taken.
      epsilon: > 0, added to the variance.
    Returns:
      y, same shape and dtype.
    Raises:
      ValueError: an axis does not exist.  TypeError: x is no array of real numbers.
    Kinks: none.
    Numerics: the variance is the mean of squares about the mean; of half precision, moments are float32.
    Source: Ba, Kiros, Hinton 2016.
    Example:
      >>> layers.standardize(jnp.array([1.0, 3.0]), epsilon=0.0).tolist()
      [-1.0, 1.0]
    """
    return _standardize(*_prepared(x, axis, epsilon))


def rms_normalize(x: Float[Array, "..."], axis: int | Sequence[int] = -1, epsilon: float = 1e-5) -> Float[Array, "..."]:
    """y = r x,  r = 1 / sqrt(mean x^2 + epsilon) over the axes: RMS norm's core.

    dy = r (dx - y mean(y dx)), which is symmetric in dx  =>  x_bar = r (y_bar - y mean(y y_bar)).

    Args, returns, raises: as standardize.
    Kinks: none.  Numerics: of half precision, the mean square is float32.
    Source: Zhang and Sennrich 2019.
    Example:
      >>> print(np.asarray(layers.rms_normalize(jnp.array([1.0, 7.0]), epsilon=0.0)).round(3))
      [0.2 1.4]
    """
    return _rms_normalize(*_prepared(x, axis, epsilon))


def _prepared(x, axis, epsilon):
    x = real("x", x)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in axes:
        if not -x.ndim <= a < x.ndim:
            raise ValueError(f"axis: expected an axis of x, whose shape is {x.shape}, got {a}")
    return tuple(a % x.ndim for a in axes), number("epsilon", epsilon), x


def _wide(x: Array) -> Array:
    return x.astype(of_sums(x.dtype))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.mean(x, axes, keepdims=True)


def _standard(axes, epsilon, x):
    """y and r."""
    wide = _wide(x)
    centred = wide - _mean(wide, axes)
    r = lax.rsqrt(_mean(jnp.square(centred), axes) + epsilon)
    return (r * centred).astype(x.dtype), r


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _standardize(axes, epsilon, x):
    return _standard(axes, epsilon, x)[0]


@_standardize.defjvp
def _standardize_jvp(axes, epsilon, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    y, r = _standard(axes, epsilon, x)
    wide, moved = _wide(y), _wide(x_dot)
    y_dot = r * (moved - _mean(moved, axes) - wide * _mean(wide * moved, axes))
    return y, y_dot.astype(x.dtype)


def _scaled(axes, epsilon, x):
    """y and r."""
    wide = _wide(x)
    r = lax.rsqrt(_mean(jnp.square(wide), axes) + epsilon)
    return (r * wide).astype(x.dtype), r


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _rms_normalize(axes, epsilon, x):
    return _scaled(axes, epsilon, x)[0]


@_rms_normalize.defjvp
def _rms_normalize_jvp(axes, epsilon, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    y, r = _scaled(axes, epsilon, x)
    wide, moved = _wide(y), _wide(x_dot)
    y_dot = r * (moved - wide * _mean(wide * moved, axes))
    return y, y_dot.astype(x.dtype)


def layer_norm(shape: int | Sequence[int], *, epsilon: float = 1e-5, dtype: DTypeLike | None = None) -> Layer:
    """y = scale * standardize(x) + bias over the last axes, those of `shape`.

    y_bar given, with w = scale y_bar and n = standardize(x) = r (x - mean x):
    x_bar = r (w - mean w - n mean(w n)),  scale_bar = the sum of y_bar n over examples,  bias_bar = that of y_bar.

    Args:
      shape: of the parameters, the last axes of x.
      epsilon: added to the variance.
      dtype: of the parameters.
    Returns:
      Layer with params {"scale": shape, "bias": shape}, 1 and 0 at first; apply(params, x) of (*batch, *shape).
    Raises:
      ValueError: x or the params do not fit.  TypeError: x is no array of real numbers.
    Kinks: none.  Numerics: as standardize.
    Source: Ba, Kiros, Hinton 2016.
    Example:
      >>> layer = layers.layer_norm(2, epsilon=0.0)
      >>> layer.apply(layer.init(jax.random.key(0)), jnp.array([[1.0, 3.0]])).tolist()
      [[-1.0, 1.0]]
    """
    shape = _shape(shape)

    def apply(params: Params, x: Array) -> Array:
        axes = _last_axes(x, shape)
        return _affine(params, standardize(x, axes, epsilon), shape, ("scale", "bias"))

    return Layer(_init(shape, dtype, ("scale", "bias")), apply)


def rms_norm(shape: int | Sequence[int], *, epsilon: float = 1e-5, dtype: DTypeLike | None = None) -> Layer:
    """y = scale * x / sqrt(mean x^2 + epsilon) over the last axes, those of `shape`.

    y_bar given, with w = scale y_bar and n = rms_normalize(x) = r x:  x_bar = r (w - n mean(w n)),
    scale_bar = the sum of y_bar n over examples.

    Args, raises, kinks, numerics: as layer_norm; there is no bias.
    Source: Zhang and Sennrich 2019.
    Example:
      >>> layer = layers.rms_norm(2, epsilon=0.0)
      >>> print(np.asarray(layer.apply(layer.init(jax.random.key(0)), jnp.array([[1.0, 7.0]]))).round(3))
      [[0.2 1.4]]
    """
    shape = _shape(shape)

    def apply(params: Params, x: Array) -> Array:
        axes = _last_axes(x, shape)
        return _affine(params, rms_normalize(x, axes, epsilon), shape, ("scale",))

    return Layer(_init(shape, dtype, ("scale",)), apply)


def group_norm(
    features: int, groups: int, *, epsilon: float = 1e-5, batch_axes: int = 1, dtype: DTypeLike | None = None
) -> Layer:
    """standardize over space and the features of a group, then scale and bias of each feature.

    x_bar as of layer_norm, with means over (space, features / groups).

    Args:
      features: channels.
      groups: into how many groups of neighbours they are split.
      epsilon: added to the variance.
      batch_axes: how many first axes of x are examples.
      dtype: of the parameters.
    Returns:
      Layer with params {"scale": (features,), "bias": (features,)}; apply(params, x) of (*batch, *space, features).
    Raises:
      ValueError: groups do not divide the features; x or the params do not fit.
    Kinks: none.  Numerics: as standardize.
    Source: Wu and He 2018.
    Example:
      >>> layer = layers.group_norm(4, 2)
      >>> y = layer.apply(layer.init(jax.random.key(0)), jnp.arange(8.0).reshape(1, 2, 4))
      >>> y.shape
      (1, 2, 4)
    """
    if integer("features", features) % integer("groups", groups):
        raise ValueError(f"groups: expected a divisor of the {features} features, got {groups}")
    integer("batch_axes", batch_axes, 0)

    def apply(params: Params, x: Array) -> Array:
        x = real("x", x)
        if x.ndim < batch_axes + 1 or x.shape[-1] != features:
            raise ValueError(f"x: expected shape ({'batch, ' * batch_axes}*space, {features}), got {x.shape}")
        grouped = x.reshape(*x.shape[:-1], groups, features // groups)
        axes = (*range(batch_axes, x.ndim - 1), x.ndim)
        normal = standardize(grouped, axes, epsilon).reshape(x.shape)
        return _affine(params, normal, (features,), ("scale", "bias"))

    return Layer(_init((features,), dtype, ("scale", "bias")), apply)


def batch_norm(
    features: int,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    *,
    axis_name: str | None = None,
    dtype: DTypeLike | None = None,
) -> StatefulLayer:
    """y = scale (x - m) / sqrt(v + epsilon) + bias with moments of the batch, over all axes but the last.

    y_bar given, with w = scale y_bar, n = (x - m) r and means over the batch:  x_bar = r (w - mean w - n mean(w n)),
    scale_bar = the sum of y_bar n,  bias_bar = that of y_bar.  In use (deterministic) m and v are constants:
    x_bar = r w.

    Args:
      features: the last axis.
      momentum: of the running moments, moments <- momentum moments + (1 - momentum) batch moments.
      epsilon: added to the variance.
      axis_name: of a mapped axis (vmap, shard_map) over which the batch is split: moments are the whole batch's.
        Arrays that are sharded under jit need none.
      dtype: of the parameters.
    Returns:
      StatefulLayer with params {"scale": (features,), "bias": (features,)};
      apply(params, moments, x, deterministic=False, weights=None) -> (moments, y), x (*batch, *space, features);
      weights, of x's shape without the features or of its first axes, count each row so often (0 for a padded one).
      initial() -> {"mean": zeros, "variance": ones}.
    Raises:
      ValueError: x, moments, weights or params do not fit.  TypeError: x is no array of real numbers.
    Kinks: none.
    Numerics: the batch's biased variance, about its mean; of half precision, moments are float32.  Rows of weight 0
      count for nothing, NaN among them, and give y = bias.
    Source: Ioffe and Szegedy 2015.
    Example:
      >>> layer = layers.batch_norm(1)
      >>> _, y = layer.apply(layer.init(jax.random.key(0)), layer.initial(), jnp.array([[1.0], [3.0]]))
      >>> y.round(3).tolist()
      [[-1.0], [1.0]]
    """
    integer("features", features)
    within("momentum", number("momentum", momentum), 0.0, 1.0)

    def apply(
        params: Params, moments: Params, x: Array, deterministic: bool = False, weights: Array | None = None
    ) -> tuple[Params, Array]:
        x = real("x", x)
        if x.ndim < 2 or x.shape[-1] != features:
            raise ValueError(f"x: expected shape (batch, ..., {features}), got {x.shape}")
        for name in ("mean", "variance"):
            shaped(f"moments[{name!r}]", entry("moments", moments, name), (features,))
        if deterministic:
            mean, variance = moments["mean"], moments["variance"]
            r = lax.rsqrt(variance + epsilon)
            wide = _wide(x)
            normal = (wide - _rows(mean, wide)) * _rows(r, wide)
            return moments, _affine(params, normal.astype(x.dtype), (features,), ("scale", "bias"))
        if weights is None and axis_name is None:
            axes = tuple(range(x.ndim - 1))
            normal = standardize(x, axes, epsilon)
            mean = jnp.mean(_wide(x), axes)
            variance = jnp.mean(jnp.square(_wide(x) - _rows(mean, x)), axes)
        else:
            mean, variance, centred = _weighted_moments(x, weights, axis_name)
            normal = (centred * _rows(lax.rsqrt(variance + epsilon), centred)).astype(x.dtype)
        batch = {"mean": lax.stop_gradient(mean), "variance": lax.stop_gradient(variance)}
        moved = {
            name: momentum * moments[name] + (1 - momentum) * batch[name].astype(moments[name].dtype)
            for name in ("mean", "variance")
        }
        return moved, _affine(params, normal, (features,), ("scale", "bias"))

    def initial(dtype: DTypeLike | None = None) -> Params:
        of = of_sums(floating_dtype("dtype", dtype))
        return {"mean": jnp.zeros(features, of), "variance": jnp.ones(features, of)}

    return StatefulLayer(_init((features,), dtype, ("scale", "bias")), apply, initial)


def _weighted_moments(x, weights, axis_name):
    """Mean, variance and x - mean over all axes but the last, each row counted as its weight says (0 of weight 0)."""
    wide, axes = _wide(x), tuple(range(x.ndim - 1))
    if weights is None:
        weights = jnp.ones(x.shape[:-1], wide.dtype)
    else:
        weights = array("weights", weights)
        if weights.shape != x.shape[: weights.ndim] or weights.ndim >= x.ndim:
            raise ValueError(f"weights: expected the first axes of x, whose shape is {x.shape}, got {weights.shape}")
        weights = laid_along(weights, x)
        weights = weights.astype(wide.dtype).reshape(*weights.shape, *(1,) * (x.ndim - 1 - weights.ndim))
    weights = jnp.broadcast_to(weights[..., None], x.shape)

    def total(terms):
        found = jnp.sum(terms, axes)
        return found if axis_name is None else lax.psum(found, axis_name)

    count = total(weights)
    count = jnp.where(count == 0, 1.0, count)
    # what counts for nothing may be anything, NaN too
    present = jnp.where(weights == 0, 0.0, wide)
    mean = total(weights * present) / count
    centred = jnp.where(weights == 0, 0.0, present - _rows(mean, wide))
    return mean, total(weights * jnp.square(centred)) / count, centred


def _rows(v, like):
    return broadcast_like(v, like)


def _shape(shape) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if not sizes:
        raise ValueError("shape: expected at least one axis, got none")
    return tuple(integer("shape", size) for size in sizes)


def _last_axes(x, shape):
    x = real("x", x)
    if x.shape[x.ndim - len(shape) :] != shape or x.ndim < len(shape):
        raise ValueError(f"x: expected last axes {shape}, got shape {x.shape}")
    return tuple(range(x.ndim - len(shape), x.ndim))


def _init(shape, dtype, names):
    def init(key: Key) -> Params:
        arguments.key("key", key)
        of = floating_dtype("dtype", dtype)
        return {name: jnp.ones(shape, of) if name == "scale" else jnp.zeros(shape, of) for name in names}

    return init


def _affine(params, normal, shape, names):
    for name in names:
        value = shaped(f"params[{name!r}]", entry("params", params, name), shape)
        value = broadcast_like(value, normal)
        normal = normal * value if name == "scale" else normal + value
    return normal
