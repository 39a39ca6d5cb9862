"""Convolutions over one to three axes of space, and their adjoints."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import entry, floating_dtype, integer, real, shaped
from functional_dl.layers.layer import Layer
from functional_dl.layers.windows import Padding, check_fits, pads, per_axis, window_of
from functional_dl.sharding import broadcast_like

Initializer = initializers.Name | Callable[..., Array]


def conv(
    in_features: int,
    out_features: int,
    window: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    use_bias: bool = True,
    *,
    initializer: Initializer = "he_normal",
    dtype: DTypeLike | None = None,
) -> Layer:
    """Convolution as networks have it (cross-correlation), y_i = sum_k x_{s i + d k - p} W_k + b.

    y_bar given: x_bar = the transposed convolution of y_bar (conv_transpose without its bias),
    W_k_bar = sum_i x_{s i + d k - p}^T y_i_bar over examples and places i, b_bar = the sum of y_bar over both.

    Args:
      in_features, out_features: channels.
      window: sizes along the axes of space, one to three of them.
      stride, dilation: s and d, one for all axes or one an axis.
      padding: "same" (outputs of ceil(size / stride), what is odd at the high end), "valid", "causal" (all at the low
        end), an integer for both ends, or a pair (low, high) an axis; zeros are padded.
      groups: channels are split into so many groups, convolved apart.
      use_bias: whether there is b; it starts at 0.
      initializer, dtype: as of `dense`; a unit's inputs are window x in_features / groups.
    Returns:
      Layer with params {"weight": (*window, in / groups, out), "bias": (out,)} and apply(params, x) from
      (*batch, *space, in) to (*batch, *space, out), any number of batch axes.
    Raises:
      ValueError: a size is not positive; groups do not divide the channels; x or the weight does not fit; the window
        is larger than the padded input.
      TypeError: a size is no integer, x no array of real numbers, the key of `init` no PRNG key.
    Kinks: none (linear in x and in the params).
    Source: Dumoulin and Visin 2016; Goodfellow, Bengio, Courville 2016, chapter 9.
    Example:
      >>> layer = layers.conv(1, 1, 3)
      >>> params = {"weight": jnp.ones((3, 1, 1)), "bias": jnp.zeros(1)}
      >>> layer.apply(params, jnp.arange(4.0).reshape(1, 4, 1))[0, :, 0].tolist()
      [1.0, 3.0, 6.0, 5.0]
    """
    window = window_of(window)
    rank = len(window)
    strides, dilations = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    extent = _extent(window, dilations)
    pads(padding, (1,) * rank, extent, strides)  # refuses what it does not know
    _check_channels(in_features, out_features, groups)
    shape = (*window, in_features // groups, out_features)
    init = _init(shape, out_features, use_bias, initializer, dtype)

    def apply(params: Params, x: Array) -> Array:
        x, weight, batch = _inputs(params, x, shape, in_features, rank)
        padded = pads(padding, x.shape[1:-1], extent, strides)
        check_fits("x", x.shape[1:-1], extent, padded)
        y = lax.conv_general_dilated(
            x,
            weight,
            strides,
            padded,
            rhs_dilation=dilations,
            dimension_numbers=_layout(rank),
            feature_group_count=groups,
        )
        return _with_bias(params, y.reshape(*batch, *y.shape[1:]), use_bias)

    return Layer(init, apply)


def conv_transpose(
    in_features: int,
    out_features: int,
    window: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    use_bias: bool = True,
    *,
    initializer: Initializer = "he_normal",
    dtype: DTypeLike | None = None,
) -> Layer:
    """The adjoint of `conv`: x_bar of the convolution from out to in channels with the same options, plus b.

    y_j = sum over (i, k) with s i + d k - p = j of W_k x_i,  so that <conv(u), x> = <u, conv_transpose(x)>.

    Outputs are s n long for "same", and s (n - 1) + d (w - 1) + 1 - low - high otherwise, the shortest whose
    convolution has n places.

    Args:
      in_features, out_features, window, stride, padding, dilation, groups, use_bias, initializer, dtype: as of `conv`.
    Returns:
      Layer with params {"weight": (*window, out / groups, in), "bias": (out,)}, the weight of the convolution from
      out to in, and apply(params, x) from (*batch, *space, in) to (*batch, *space, out).
    Raises, kinks: as `conv`.
    Source: Dumoulin and Visin 2016, chapter 4.
    Example:
      >>> layer = layers.conv_transpose(1, 1, 2)
      >>> params = {"weight": jnp.ones((2, 1, 1)), "bias": jnp.zeros(1)}
      >>> layer.apply(params, jnp.array([1.0, 2.0]).reshape(1, 2, 1))[0, :, 0].tolist()
      [1.0, 3.0, 2.0]
    """
    window = window_of(window)
    rank = len(window)
    strides, dilations = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    extent = _extent(window, dilations)
    pads(padding, (1,) * rank, extent, strides)
    _check_channels(in_features, out_features, groups)
    shape = (*window, out_features // groups, in_features)
    init = _init(shape, out_features, use_bias, initializer, dtype)

    def apply(params: Params, x: Array) -> Array:
        x, weight, batch = _inputs(params, x, shape, in_features, rank)
        space = x.shape[1:-1]
        same = [s * n for s, n in zip(strides, space)]
        low_high = pads(padding, same, extent, strides)
        spread = [(n - 1) * s + 1 for n, s in zip(space, strides)]  # the inputs with zeros between
        long = [n + w - 1 - low - high for n, w, (low, high) in zip(spread, extent, low_high)]
        sizes = same if padding == "same" else long
        if min(sizes) < 1:
            raise ValueError(f"x: expected a longer space for this padding: outputs would be {tuple(long)} long")
        ends = [(w - 1 - low, size - n + low) for w, (low, _), size, n in zip(extent, low_high, sizes, spread)]
        y = lax.conv_general_dilated(
            x,
            _adjoint_weight(weight, rank, groups),
            (1,) * rank,
            ends,
            lhs_dilation=strides,
            rhs_dilation=dilations,
            dimension_numbers=_layout(rank),
            feature_group_count=groups,
        )
        return _with_bias(params, y.reshape(*batch, *y.shape[1:]), use_bias)

    return Layer(init, apply)


def _adjoint_weight(weight, rank, groups):
    """(*window, out / groups, in) -> (*window, in / groups, out), mirrored in space: group by group the transpose."""
    *window, each, channels = weight.shape
    weight = lax.rev(weight, tuple(range(rank)))
    weight = weight.reshape(*window, each, groups, channels // groups)
    return jnp.moveaxis(weight, -1, rank).swapaxes(-1, -2).reshape(*window, channels // groups, groups * each)


def _extent(window, dilations):
    return tuple((w - 1) * d + 1 for w, d in zip(window, dilations))


def _check_channels(in_features, out_features, groups):
    integer("groups", groups)
    for name, features in (("in_features", in_features), ("out_features", out_features)):
        if integer(name, features) % groups:
            raise ValueError(f"groups: expected a divisor of {name} {features}, got {groups}")


def _init(shape, out_features, use_bias, initializer, dtype):
    make_weight = initializers.get(initializer)

    def init(key: Key) -> Params:
        weight = make_weight(arguments.key("key", key), shape, floating_dtype("dtype", dtype))
        return {"weight": weight, **({"bias": jnp.zeros(out_features, weight.dtype)} if use_bias else {})}

    return init


def _inputs(params, x, shape, in_features, rank):
    """x with one batch axis, the weight, and x's batch axes."""
    weight = shaped("params['weight']", entry("params", params, "weight"), shape)
    x = real("x", x)
    if x.ndim < rank + 1 or x.shape[-1] != in_features:
        axes = ", ".join(["*batch", *("space",) * rank, str(in_features)])
        raise ValueError(f"x: expected shape ({axes}), got {x.shape}")
    batch = x.shape[: x.ndim - rank - 1]
    return x.reshape(math.prod(batch), *x.shape[x.ndim - rank - 1 :]), weight, batch


def _layout(rank):
    space = "DHW"[-rank:]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def _with_bias(params, y, use_bias):
    if not use_bias:
        return y
    bias = shaped("params['bias']", entry("params", params, "bias"), y.shape[-1:])
    return y + broadcast_like(bias, y)
