"""Scaled dot-product attention, as one product of matrices or by blocks of keys."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Bool, Float

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params, PyTree
from functional_dl.arguments import array, entry, floating_dtype, integer, number, real, within
from functional_dl.blocks import moved, over_rows, rows_of
from functional_dl.layers.dense import dense
from functional_dl.layers.embedding import rotary as rotated
from functional_dl.layers.layer import layer_path
from functional_dl.precision import of_sums
from functional_dl.sharding import laid_along, laid_beside

BLOCKS_FROM = 2**20  # scores of a head: 1024 queries and keys, from where the form by blocks is the faster one
BLOCK = 2**16  # scores in a block, of all heads and examples: 256 KiB in float32


def dot_product_attention(
    query: Float[Array, "*batch queries heads d"],
    key: Float[Array, "*batch keys key_heads d"],
    value: Float[Array, "*batch keys key_heads e"],
    mask: Bool[Array, "..."] | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout_rate: ArrayLike = 0.0,
    dropout_key: Key | None = None,
    block_size: int | None = None,
) -> Float[Array, "*batch queries heads e"]:
    """Attention of each head: y_i = sum_j a_ij v_j,  a_i = softmax over j of s_ij,  s_ij = q_i . k_j / sqrt(d).

    y_bar given, with a_bar_ij = y_bar_i . v_j:

      v_bar_j = sum_i a_ij y_bar_i,   s_bar_ij = a_ij (a_bar_ij - y_bar_i . y_i),
      q_bar_i = sum_j s_bar_ij k_j / sqrt(d),   k_bar_j = sum_i s_bar_ij q_i / sqrt(d).

    Long sequences are taken by blocks of keys.  Of some keys J each query holds the largest score m_i, the sum
    z_i = sum_J exp(s_ij - m_i) and u_i = sum_J exp(s_ij - m_i) v_j; of two sets of keys

      m = max(m, m'),   z <- z e^(m_i - m) + z' e^(m'_i - m),   u likewise,   and y_i = u_i / z_i at the end.

    No weight is kept, only l_i = m_i + log z_i: a_ij = exp(s_ij - l_i) is computed again where a derivative needs it,
    and memory is linear in the length.  The derivative is stated forward,

      y_dot_i = sum_j (w_ij v_j + a_ij v_dot_j) - y_i sum_j w_ij,   w_ij = a_ij s_dot_ij,

    two sums over the blocks, linear in the tangents; its transpose is the pullback above, by the same blocks, with
    y_bar_i . y_i computed once.  So both
    modes and further derivatives are at hand.

    Args:
      query: (*batch, queries, heads, d), any number of batch axes.
      key, value: (*batch, keys, key_heads, d or e); key_heads divides heads, and query head h reads head
        h // (heads / key_heads) of them (grouped queries).
      mask: True where a query may attend to a key; broadcast against (*batch, heads, queries, keys).
      causal: query i attends to keys j <= i alone.
      scale: the factor of q . k; 1 / sqrt(d) if not given.
      dropout_rate: in [0, 1), the probability that a weight is dropped; the others are divided by 1 - rate.
      dropout_key: randomness of the dropout, the same for any block_size.
      block_size: keys in a block; by default all at once up to 2^20 scores a head, and from there blocks of about
        2^16 scores.
    Returns:
      y, (*batch, queries, heads, e).  A query that may attend to no key gets 0, and its cotangents are 0.
    Raises:
      ValueError: shapes do not fit; dropout_rate (where concrete) lies outside [0, 1), or there is no key for it.
      TypeError: an input is no array of real numbers, mask no array of booleans.
    On a mesh of Explicit axes keys and values are laid out as the queries, but for their length, which is gathered.

    Kinks: none.
    Numerics: scores are shifted by their row's largest; of half precision, scores and sums are float32.
    Source: Vaswani et al. 2017; by blocks, Rabe and Staats 2021, Dao, Fu, Ermon, Rudra, Re 2022; grouped queries,
      Ainslie et al. 2023.
    Example:
      >>> same = jnp.ones((1, 3, 1, 2))
      >>> print(
      ...     np.asarray(
      ...         layers.dot_product_attention(same, same, jnp.arange(6.0).reshape(1, 3, 1, 2))[0, 0, 0]
      ...     ).round(3)
      ... )
      [2. 3.]
    """
    query, key, value = real("query", query), real("key", key), real("value", value)
    heads, groups = _check_shapes(query, key, value)
    key, value = (laid_beside(x, query, whole=(-3, -1)) for x in (key, value))
    batch, (queries, _, features), keys = query.shape[:-3], query.shape[-3:], key.shape[-3]
    within("dropout_rate", number("dropout_rate", dropout_rate), 0.0, 1.0, open_right=True)
    dropped = isinstance(dropout_rate, jax.core.Tracer) or dropout_rate != 0
    if dropped and dropout_key is None:
        raise ValueError(f"dropout_key: expected a random key for dropout at rate {dropout_rate}, got None")
    factor = (1 / math.sqrt(features) if features else 1.0) if scale is None else number("scale", scale)
    shape = (*batch, heads // groups, groups * queries)
    grouped = moved(query.reshape(*batch, queries, heads // groups, groups, features), -4, -3)
    asking = _Queries(grouped.reshape(*shape, features), jnp.asarray(factor, query.dtype), None, None, None)
    read = _Keys(moved(key, -3, 0), moved(value, -3, 0), lax.iota(jnp.int32, keys), None)
    if mask is not None:
        read, asking = _with_mask(read, asking, mask, (*batch, heads, queries, keys), groups)
    if dropped:
        rate = jnp.asarray(dropout_rate, of_sums(query.dtype))
        asking = asking._replace(dropout_key=arguments.key("dropout_key", dropout_key), dropout_rate=rate)
    if block_size is None:
        # With half as many keys as a head is wide a block's scores take half the room of the output.
        least, of_a_key = max(16, features // 2), queries * heads * math.prod(batch)
        size = keys if queries * keys <= BLOCKS_FROM else rows_of(BLOCK, of_a_key, keys, least)
    else:
        size = integer("block_size", block_size)
    out = _at_once(groups, causal, read, asking) if size >= keys else _by_blocks(groups, causal, size, read, asking)
    out = moved(out.reshape(*shape[:-1], queries, groups, value.shape[-1]), -4, -3)
    return out.reshape(*batch, queries, heads, value.shape[-1])


class AttentionLayer(NamedTuple):
    """Attention with its projections: init(key) -> params, apply(params, queries, ...) -> output.

    For a sequence that comes piece by piece: initial(batch_shape, length) -> cache, extend(params, cache, x) -> (cache,
    output).
    """

    init: Callable[..., Params]
    apply: Callable[..., Array]
    initial: Callable[..., PyTree]
    extend: Callable[..., tuple[PyTree, Array]]


def attention(
    features: int,
    heads: int,
    key_value_heads: int | None = None,
    *,
    rotary: bool = False,
    use_bias: bool = True,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    dtype: DTypeLike | None = None,
) -> AttentionLayer:
    """Attention of several heads: queries, keys and values are dense layers of the inputs, whose heads attend apart,

    y = concat over heads h of attend(q_h, k_h, v_h) W_o + b_o;   the pullback is `dot_product_attention`'s between
    those of four dense layers.

    Args:
      features: of the inputs and of the output.
      heads: how many; head h has the columns h d to (h + 1) d of the query's weight, d = features / heads.
      key_value_heads: of keys and values, a divisor of heads (grouped queries); heads if not given.
      rotary: queries and keys are turned by their positions, see `rotary`.
      use_bias, initializer, dtype: of the dense layers.
    Returns:
      AttentionLayer with params {"query", "key", "value", "output"}, each a dense layer's.
      apply(params, queries, keys=None, values=None, *, mask=None, causal=False, dropout_rate=0.0, dropout_key=None,
      block_size=None): queries (*batch, queries, features); keys and values (*batch, keys, features), the queries
      themselves if not given (values: the keys); mask and the rest as of `dot_product_attention`.
      initial(batch_shape, length) -> cache, room for `length` positions.
      extend(params, cache, x) -> (cache, y): the next positions of a causal sequence, x (*batch, n, features); the same
      as apply with causal=True on the whole.  Beyond the cache's length y is NaN under jit, an error outside.
    Raises:
      ValueError: heads do not divide the features, key_value_heads not the heads; inputs, mask or params do not fit.
    Kinks: none.
    Source: Vaswani et al. 2017; Ainslie et al. 2023.
    Example:
      >>> layer = layers.attention(8, 2)
      >>> layer.apply(layer.init(jax.random.key(0)), jnp.ones((1, 5, 8))).shape
      (1, 5, 8)
    """
    key_heads = heads if key_value_heads is None else key_value_heads
    if integer("features", features) % integer("heads", heads):
        raise ValueError(f"heads: expected a divisor of the {features} features, got {heads}")
    if heads % integer("key_value_heads", key_heads):
        raise ValueError(f"key_value_heads: expected a divisor of the {heads} heads, got {key_heads}")
    d = features // heads
    if rotary and d % 2:
        raise ValueError(f"heads: expected an even number of features a head for rotary positions, got {d}")
    widths = {"query": heads * d, "key": key_heads * d, "value": key_heads * d}
    options = {"use_bias": use_bias, "initializer": initializer, "dtype": dtype}
    dense_layers = {name: dense(features, width, **options) for name, width in widths.items()}
    dense_layers["output"] = dense(heads * d, features, **options)

    def init(key: Key) -> Params:
        keys = jax.random.split(arguments.key("key", key), len(dense_layers))
        return {name: layer.init(k) for (name, layer), k in zip(dense_layers.items(), keys)}

    def project(params, name, x, positions):
        x = real({"query": "queries", "key": "keys", "value": "values"}[name], x)
        part = entry("params", params, name)
        with layer_path(name):
            if x.ndim < 2 or x.shape[-1] != features:
                raise ValueError(f"x: expected shape (*batch, length, {features}), got {x.shape}")
            y = dense_layers[name].apply(part, x)
        y = y.reshape(*y.shape[:-1], widths[name] // d, d)
        return rotated(y, positions) if rotary and name != "value" else y

    def joined(params, y):
        part = entry("params", params, "output")
        with layer_path("output"):
            return dense_layers["output"].apply(part, y.reshape(*y.shape[:-2], heads * d))

    def apply(
        params: Params, queries: Array, keys: Array | None = None, values: Array | None = None, **call: Any
    ) -> Array:
        keys = queries if keys is None else keys
        values = keys if values is None else values
        q, k, v = (project(params, n, x, None) for n, x in (("query", queries), ("key", keys), ("value", values)))
        return joined(params, dot_product_attention(q, k, v, **call))

    def initial(batch_shape: tuple[int, ...], length: int, dtype: DTypeLike | None = dtype) -> PyTree:
        shape = (*batch_shape, integer("length", length), key_heads, d)
        of = floating_dtype("dtype", dtype)
        return {"key": jnp.zeros(shape, of), "value": jnp.zeros(shape, of), "position": jnp.zeros((), jnp.int32)}

    def extend(params: Params, cache: PyTree, x: Array) -> tuple[PyTree, Array]:
        start, length, n = entry("cache", cache, "position"), cache["key"].shape[-3], x.shape[-2]
        known = arguments.concrete(start)
        if known is not None and int(known) + n > length:
            raise ValueError(f"x: expected at most {length - int(known)} positions more in this cache, got {n}")
        places = start + jnp.arange(n, dtype=jnp.int32)
        q, k, v = (project(params, name, x, places) for name in ("query", "key", "value"))
        k, v = (
            lax.dynamic_update_slice_in_dim(laid_along(kept, new), new.astype(kept.dtype), start, new.ndim - 3)
            for kept, new in ((cache["key"], k), (cache["value"], v))
        )
        mask = jnp.arange(length, dtype=jnp.int32)[None, :] <= places[:, None]
        y = joined(params, dot_product_attention(q, k, v, mask))
        y = jnp.where(start + n > length, jnp.nan, y)
        return {"key": k, "value": v, "position": start + n}, y

    return AttentionLayer(init, apply, initial, extend)


class _Keys(NamedTuple):
    """What belongs to a key: (keys, ...)."""

    key: Any  # (keys, *batch, key_heads, d)
    value: Any  # (keys, *batch, key_heads, e)
    place: Any  # (keys,)
    mask: Any  # (keys, *batch, key_heads, queries, group), with axes of length 1


class _Queries(NamedTuple):
    """What every block of keys reads; a head of keys has the queries of all heads that read it."""

    query: Any  # (*batch, key_heads, queries group, d)
    scale: Any
    mask: Any  # the mask where it is the same for all keys
    dropout_key: Any
    dropout_rate: Any


def _check_shapes(query, key, value) -> tuple[int, int]:
    """Heads, and query heads for each head of the keys."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.ndim < 3:
            raise ValueError(f"{name}: expected shape (*batch, length, heads, features), got {x.shape}")
        if x.shape[:-3] != query.shape[:-3]:
            raise ValueError(f"{name}: expected the batch axes of query, {query.shape[:-3]}, got shape {x.shape}")
    if key.shape[-1] != query.shape[-1]:
        raise ValueError(f"key: expected last axis {query.shape[-1]}, as of query, got shape {key.shape}")
    if value.shape[-3:-1] != key.shape[-3:-1]:
        raise ValueError(f"value: expected (keys, heads) {key.shape[-3:-1]}, as of key, got shape {value.shape}")
    heads, key_heads = query.shape[-2], key.shape[-2]
    if key_heads == 0 or heads % key_heads:
        raise ValueError(f"key: expected a number of heads that divides the query's {heads}, got {key_heads}")
    return heads, heads // key_heads


def _with_mask(read, asking, mask, full, groups):
    mask = array("mask", mask)
    if mask.dtype != bool:
        raise TypeError(f"mask: expected booleans, True where a query may attend, got dtype {mask.dtype}")
    if mask.ndim > len(full) or any(m not in (1, n) for m, n in zip(mask.shape[::-1], full[::-1])):
        raise ValueError(
            f"mask: expected a shape that broadcasts to (*batch, heads, queries, keys) {full}, got {mask.shape}"
        )
    mask = mask.reshape((1,) * (len(full) - mask.ndim) + mask.shape)
    *batch, heads, queries, keys = mask.shape
    by_group = (heads // groups, groups) if heads > 1 else (1, 1)
    mask = jnp.moveaxis(mask.reshape(*batch, *by_group, queries, keys), (-1, -2), (0, -2))
    return (read, asking._replace(mask=mask)) if keys == 1 else (read._replace(mask=mask), asking)


def _product(a: Array, b: Array) -> Array:
    """The sum of products; of half precision, in float32."""
    return jnp.matmul(a, b, preferred_element_type=of_sums(b.dtype))


def _scores(query: Array, key: Array) -> Array:
    return _product(query, jnp.swapaxes(key, -1, -2))


def _applied(weights: Array, value: Array) -> Array:
    return _product(weights.astype(value.dtype), value)


def _inside(x: Array) -> Array:
    """(keys, *batch, key_heads, n) -> (*batch, key_heads, keys, n)."""
    return moved(x, 0, -2)


def _masked_scores(group: int, causal: bool, read: _Keys, asking: _Queries) -> Array:
    """s_ij, -inf where i may not attend to j: (*batch, key_heads, queries group, keys)."""
    scores = _scores(asking.query, _inside(read.key) * asking.scale)
    asked, keys = scores.shape[-2:]
    for mask in (read.mask, asking.mask):
        if mask is not None:
            mask = jnp.broadcast_to(mask, (*mask.shape[:-2], asked // group, group))
            mask = moved(mask.reshape(*mask.shape[:-2], asked), 0, -1)
            scores = jnp.where(mask, scores, -jnp.inf)
    if causal:
        asks = lax.div(lax.broadcasted_iota(jnp.int32, (asked, keys), 0), jnp.int32(group))
        later = lax.broadcast_in_dim(read.place, (asked, keys), (1,)) > asks
        scores = jnp.where(
            lax.broadcast_in_dim(later, scores.shape, (scores.ndim - 2, scores.ndim - 1)), -jnp.inf, scores
        )
    return scores


def _kept(read: _Keys, asking: _Queries, weights: Array) -> Array:
    """The weights after dropout; a key's mask depends on the random key and its place alone."""
    if asking.dropout_key is None:
        return weights
    keys = jax.vmap(jax.random.fold_in, (None, 0))(asking.dropout_key, read.place)
    mask = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - asking.dropout_rate, weights.shape[:-1]))(keys)
    return jnp.where(moved(mask, 0, -1), weights / (1 - asking.dropout_rate).astype(weights.dtype), 0.0)


def _at_most(largest: Array) -> Array:
    """A number to subtract from scores: their largest; where there is none, 0."""
    return jnp.where(largest == -jnp.inf, 0.0, largest)


def _sums(group: int, causal: bool, read: _Keys, _: None, asking: _Queries) -> tuple[Array, Array, Array]:
    """m, z and u of some keys."""
    scores = _masked_scores(group, causal, read, asking)
    largest = lax.stop_gradient(jnp.max(scores, -1, keepdims=True, initial=-jnp.inf))
    weights = jnp.exp(scores - _at_most(largest))
    out = _applied(_kept(read, asking, weights), _inside(read.value))
    return largest, jnp.sum(weights, -1, keepdims=True), out


def _merged(some: tuple[Array, Array, Array], more: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """m, z and u of two sets of keys."""
    largest = jnp.maximum(some[0], more[0])
    one, other = (jnp.exp(part[0] - _at_most(largest)) for part in (some, more))
    return largest, some[1] * one + more[1] * other, some[2] * one + more[2] * other


def _normalised(largest: Array, total: Array, out: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    """y and l; where nothing may be attended to, 0 and 0."""
    total = jnp.where(total == 0, 1.0, total)
    return (out / total).astype(dtype), _at_most(largest) + jnp.log(total)


def _at_once(group: int, causal: bool, read: _Keys, asking: _Queries) -> Array:
    largest, total, out = _sums(group, causal, read, None, asking)
    return _normalised(largest, total, out, read.value.dtype)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _by_blocks(group: int, causal: bool, size: int, read: _Keys, asking: _Queries) -> Array:
    return _with_logsum(group, causal, size, read, asking)[0]


def _with_logsum(group, causal, size, read, asking):
    empty = -jnp.inf, 0.0, 0.0
    largest, total, out = over_rows(functools.partial(_sums, group, causal), _merged, empty, size, read, asking)
    return _normalised(largest, total, out, read.value.dtype)


@_by_blocks.defjvp
def _by_blocks_jvp(group, causal, size, primals, tangents):
    (read, asking), (read_dot, asking_dot) = primals, tangents
    out, logsum = _with_logsum(group, causal, size, read, asking)

    def tangent(read, dots, asking, logsum, query_dot, scale_dot):
        weights = jnp.exp(_masked_scores(group, causal, read, asking) - logsum)
        key, value, key_dot, value_dot = map(_inside, (read.key, read.value, *dots))
        scaled_dot = key_dot * asking.scale + key * scale_dot
        moved = weights * (_scores(query_dot, key * asking.scale) + _scores(asking.query, scaled_dot))
        out_dot = _applied(_kept(read, asking, moved), value) + _applied(_kept(read, asking, weights), value_dot)
        return out_dot, jnp.sum(moved, -1, keepdims=True)

    fixed = asking, logsum, asking_dot.query, asking_dot.scale
    dots = read_dot.key, read_dot.value
    found, total = over_rows(
        tangent, functools.partial(jax.tree.map, jnp.add), (0.0, 0.0), size, read, *fixed, tangents=dots
    )
    return out, (found - total * out.astype(found.dtype)).astype(out.dtype)
