"""Rows for integers, and positions in a sequence."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Float, Integer

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import array, concrete, entry, floating_dtype, integer, real, shaped
from functional_dl.layers.layer import Layer
from functional_dl.precision import of_sums
from functional_dl.sharding import sharding_of


def embedding(
    vocabulary: int,
    features: int,
    *,
    initializer: initializers.Name | Callable[..., Array] | None = None,
    dtype: DTypeLike | None = None,
) -> Layer:
    """A row of a matrix for each integer, y = W_i.

    W_bar_i = the sum of y_bar over all places where the id is i: repeated ids add up.

    Args:
      vocabulary: how many ids there are, 0 to vocabulary - 1.
      features: the length of a row.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight; by default normal numbers of
        variance 1 / features.
      dtype: of the weight.
    Returns:
      Layer with params {"weight": (vocabulary, features)} and apply(params, ids) from integers (*batch,) to
      (*batch, features).  Under jit a row of NaN stands for an id outside of the vocabulary.
    Raises:
      ValueError: a size is not positive; a concrete id lies outside [0, vocabulary).  TypeError: ids are no integers.
    Kinks: none (linear in the weight).
    Source: Bengio, Ducharme, Vincent, Jauvin 2003.
    Example:
      >>> layer = layers.embedding(10, 4)
      >>> layer.apply(layer.init(jax.random.key(0)), jnp.array([[1, 2, 1]])).shape
      (1, 3, 4)
    """
    shape = (integer("vocabulary", vocabulary), integer("features", features))
    make_weight = None if initializer is None else initializers.get(initializer)

    def init(key: Key) -> Params:
        key, of = arguments.key("key", key), floating_dtype("dtype", dtype)
        if make_weight is not None:
            return {"weight": make_weight(key, shape, of)}
        return {"weight": initializers.normal(key, shape, of, 1 / math.sqrt(features))}

    def apply(params: Params, ids: Integer[Array, "*batch"]) -> Float[Array, "*batch features"]:
        weight = shaped("params['weight']", entry("params", params, "weight"), shape)
        ids = array("ids", ids)
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise TypeError(f"ids: expected integers, got dtype {ids.dtype}")
        values = concrete(ids)
        if values is not None and ((values < 0) | (values >= vocabulary)).any():
            bad = values[(values < 0) | (values >= vocabulary)].flat[0]
            raise ValueError(f"ids: expected integers in [0, {vocabulary}), got {bad}")
        ids, on_mesh = jnp.where(ids < 0, vocabulary, ids), sharding_of(ids)
        if on_mesh is None:
            return jnp.take(weight, ids, axis=0, mode="fill")
        rows = on_mesh.update(spec=PartitionSpec(*on_mesh.spec, None))  # each device looks up its own ids
        if sharding_of(weight) is None:  # the derivative's sum stands on the mesh, as the other uses' of the weight
            weight = jax.sharding.reshard(weight, on_mesh.update(spec=PartitionSpec(None, None)))
        return weight.at[ids].get(mode="fill", fill_value=jnp.nan, out_sharding=rows)

    return Layer(init, apply)


def sinusoidal_positions(length: int, features: int, dtype: DTypeLike | None = None) -> Float[Array, "length features"]:
    """p_{t, 2i} = sin(t / 10000^(2i / d)),  p_{t, 2i+1} = cos(t / 10000^(2i / d)), for t = 0, ..., length - 1.

    Raises:
      ValueError: features is odd, a size not positive.
    Source: Vaswani et al. 2017, section 3.5.
    Example:
      >>> print(np.asarray(layers.sinusoidal_positions(2, 2)).round(3))
      [[0.    1.   ]
       [0.841 0.54 ]]
    """
    integer("length", length)
    if integer("features", features) % 2:
        raise ValueError(f"features: expected an even number, half sines and half cosines, got {features}")
    of = floating_dtype("dtype", dtype)
    angles = _angles(jnp.arange(length), features, of, 10000.0)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(length, features).astype(of)


def rotary(
    x: Float[Array, "*batch time heads d"], positions: Integer[Array, " time"] | None = None, base: float = 10000.0
) -> Float[Array, "*batch time heads d"]:
    """Rotary positions: pair i of a query's or key's features, (x_i, x_{i + d/2}), turned by t / base^(2i / d).

    q_t . k_s then depends on the positions by t - s alone.  x_bar = y_bar turned back.

    Args:
      x: queries or keys, (*batch, time, heads, d), d even.
      positions: t of each entry of the time axis; 0, 1, ... if not given.
      base: of the frequencies.
    Raises:
      ValueError: d is odd, or positions do not fit.  TypeError: x is no array of real numbers.
    Kinks: none (linear in x).
    Source: Su, Lu, Pan, Murtadha, Wen, Liu 2021.
    Example:
      >>> x = jnp.ones((1, 3, 1, 4))
      >>> y = layers.rotary(x)
      >>> y.shape, bool(jnp.allclose(jnp.linalg.norm(y), jnp.linalg.norm(x)))
      ((1, 3, 1, 4), True)
    """
    x = real("x", x)
    if x.ndim < 3 or x.shape[-1] % 2:
        raise ValueError(f"x: expected shape (*batch, time, heads, d) with d even, got {x.shape}")
    time, d = x.shape[-3], x.shape[-1]
    t = jnp.arange(time) if positions is None else array("positions", positions)
    if t.shape != (time,):
        raise ValueError(f"positions: expected shape {(time,)}, got {t.shape}")
    angles = _angles(t, d, x.dtype, base)[:, None, :]
    shape = (*x.shape[:-1], d // 2)
    cos, sin = (jnp.broadcast_to(f(angles).astype(x.dtype), shape) for f in (jnp.cos, jnp.sin))
    first, second = x[..., : d // 2], x[..., d // 2 :]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def _angles(t, features, dtype, base):
    """t / base^(2i / d): (length, d / 2), the quotients in float32 at least."""
    rate = jnp.asarray([base ** (-2 * i / features) for i in range(features // 2)], of_sums(dtype))
    return t.astype(rate.dtype)[:, None] * rate[None, :]
