"""Recurrent cells and what runs them over time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float, Integer

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params, PyTree
from functional_dl.arguments import array, concrete, entry, floating_dtype, integer, real, shaped
from functional_dl.layers.dense import affine
from functional_dl.layers.layer import StatefulLayer, layer_path
from functional_dl.sharding import laid_along

Initializer = initializers.Name | Callable[..., Array]


def rnn_cell(
    in_features: int,
    features: int,
    *,
    initializer: Initializer = "glorot_uniform",
    hidden_initializer: Initializer = "orthogonal",
    dtype: DTypeLike | None = None,
) -> StatefulLayer:
    """The simple recurrent cell, h' = tanh(x W + b + h U + c).

    h'_bar given:  z_bar = h'_bar (1 - h'^2),  x_bar = z_bar W^T,  h_bar = z_bar U^T,  W_bar = x^T z_bar,
    U_bar = h^T z_bar,  b_bar = c_bar = the sum of z_bar over examples.

    Args:
      in_features, features: sizes of x and of the state.
      initializer, hidden_initializer: of W and of U; biases start at 0.
      dtype: of the parameters.
    Returns:
      StatefulLayer with params {"input": {"weight": W (in, k features), "bias": b (k features,)},
      "hidden": {"weight": U (features, k features), "bias": c}}, k = 1;
      apply(params, carry, x) -> (carry, y), the carry h, y = h';  initial(batch_shape=(), dtype=None) -> zeros.
    Raises:
      ValueError: x, the carry or the params do not fit.  TypeError: a size is no integer.
    Kinks: none.
    Source: Elman 1990.
    Example:
      >>> cell = layers.rnn_cell(3, 4)
      >>> carry, y = cell.apply(cell.init(jax.random.key(0)), cell.initial((2,)), jnp.ones((2, 3)))
      >>> y.shape
      (2, 4)
    """

    def step(from_x, from_h, h):
        h = jnp.tanh(from_x + from_h)
        return h, h

    return _cell(in_features, features, 1, step, (initializer, hidden_initializer, dtype))


def lstm_cell(
    in_features: int,
    features: int,
    *,
    initializer: Initializer = "glorot_uniform",
    hidden_initializer: Initializer = "orthogonal",
    dtype: DTypeLike | None = None,
) -> StatefulLayer:
    """Long short-term memory, z = x W + b + h U + c' in four parts, input, forget, cell, output:

    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o),  g = tanh(z_g),  c' = f c + i g,  h' = o tanh(c').

    With C = c'_bar + h'_bar o (1 - tanh(c')^2):  z_i_bar = C g i (1 - i),  z_f_bar = C c f (1 - f),
    z_g_bar = C i (1 - g^2),  z_o_bar = h'_bar tanh(c') o (1 - o),  c_bar = C f, and from z_bar on as rnn_cell.

    Args, raises, kinks: as rnn_cell.
    Returns:
      As rnn_cell, k = 4, the carry (h, c), y = h'.
    Source: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000.
    Example:
      >>> cell = layers.lstm_cell(3, 4)
      >>> carry, y = cell.apply(cell.init(jax.random.key(0)), cell.initial((2,)), jnp.ones((2, 3)))
      >>> y.shape
      (2, 4)
    """

    def step(from_x, from_h, carry):
        _, c = carry
        i, f, g, o = jnp.split(from_x + from_h, 4, axis=-1)
        c = lax.logistic(f) * c + lax.logistic(i) * jnp.tanh(g)
        h = lax.logistic(o) * jnp.tanh(c)
        return (h, c), h

    return _cell(in_features, features, 4, step, (initializer, hidden_initializer, dtype), states=2)


def gru_cell(
    in_features: int,
    features: int,
    *,
    initializer: Initializer = "glorot_uniform",
    hidden_initializer: Initializer = "orthogonal",
    dtype: DTypeLike | None = None,
) -> StatefulLayer:
    """Gated recurrent unit, x W + b and h U + c in three parts each, reset, update, new:

    r = sigmoid(x_r + h_r),  u = sigmoid(x_u + h_u),  n = tanh(x_n + r h_n),  h' = (1 - u) n + u h.

    n_bar = h'_bar (1 - u),  m = n_bar (1 - n^2),  x_n_bar = m,  h_n_bar = m r,  r's is m h_n r (1 - r),
    u's is h'_bar (h - n) u (1 - u), and h_bar = h'_bar u + (h parts) U^T.

    Args, raises, kinks: as rnn_cell.
    Returns:
      As rnn_cell, k = 3, the carry h, y = h'.
    Source: Cho et al. 2014, with the reset gate after the product, as cuDNN has it.
    Example:
      >>> cell = layers.gru_cell(3, 4)
      >>> carry, y = cell.apply(cell.init(jax.random.key(0)), cell.initial((2,)), jnp.ones((2, 3)))
      >>> y.shape
      (2, 4)
    """

    def step(from_x, from_h, h):
        (x_r, x_u, x_n), (h_r, h_u, h_n) = jnp.split(from_x, 3, axis=-1), jnp.split(from_h, 3, axis=-1)
        u = lax.logistic(x_u + h_u)
        n = jnp.tanh(x_n + lax.logistic(x_r + h_r) * h_n)
        h = (1 - u) * n + u * h
        return h, h

    return _cell(in_features, features, 3, step, (initializer, hidden_initializer, dtype))


def _cell(in_features, features, gates, step, options, states: int = 1) -> StatefulLayer:
    for name, size in (("in_features", in_features), ("features", features)):
        integer(name, size)
    initializer, hidden_initializer, dtype = options
    makers = initializers.get(initializer), initializers.get(hidden_initializer)

    def init(key: Key) -> Params:
        keys, of = jax.random.split(arguments.key("key", key)), floating_dtype("dtype", dtype)
        sizes = {"input": in_features, "hidden": features}
        return {
            # each gate by itself: a gate's variance is not that of a layer with all gates as outputs
            name: {
                "weight": jnp.concatenate([make(k, (size, features), of) for k in jax.random.split(part, gates)], 1),
                "bias": jnp.zeros(gates * features, of),
            }
            for (name, size), make, part in zip(sizes.items(), makers, keys)
        }

    def apply(params: Params, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        x, h = real("x", x), carry[0] if states == 2 else carry
        h = real("carry", h)
        if x.ndim == 0 or x.shape[-1] != in_features:
            raise ValueError(f"x: expected shape (*batch, {in_features}), got {x.shape}")
        if h.shape != (*x.shape[:-1], features):
            raise ValueError(f"carry: expected shape {(*x.shape[:-1], features)} beside x {x.shape}, got {h.shape}")
        from_x = _affine(params, "input", in_features, gates * features, x)
        from_h = _affine(params, "hidden", features, gates * features, h)
        return step(from_x, from_h, carry)

    def initial(batch_shape: tuple[int, ...] = (), dtype: DTypeLike | None = dtype) -> PyTree:
        zeros = jnp.zeros((*batch_shape, features), floating_dtype("dtype", dtype))
        return (zeros, zeros) if states == 2 else zeros

    return StatefulLayer(init, apply, initial)


def _affine(params, name, size, out, x):
    given = entry("params", params, name)
    with layer_path(name):
        shaped("params['weight']", entry("params", given, "weight"), (size, out))
        shaped("params['bias']", entry("params", given, "bias"), (out,))
        return affine(given, x)


def recurrent(cell: StatefulLayer, reverse: bool = False) -> StatefulLayer:
    """A cell over time: (h_t, y_t) = cell(h_{t-1}, x_t), from the first to the last; `reverse`, from the last.

    The pullback runs the other way: h_{t-1}_bar = (d cell / d h)^T (h_t_bar, y_t_bar), params_bar sums over t.

    Args:
      cell: a StatefulLayer.
      reverse: run from the end of the time axis.
    Returns:
      StatefulLayer with the cell's params and initial; apply(params, carry, xs, lengths=None) -> (carry, ys),
      xs (*batch, time, in), ys (*batch, time, features); past an example's length the carry stands still and ys is 0.
    Raises:
      ValueError: xs or lengths do not fit; a concrete length lies outside [0, time].
    Source: Goodfellow, Bengio, Courville 2016, section 10.2.
    Example:
      >>> layer = layers.recurrent(layers.rnn_cell(3, 4))
      >>> sorted(layer.init(jax.random.key(0)))
      ['hidden', 'input']
    """

    def apply(
        params: Params,
        carry: PyTree,
        xs: Float[Array, "*batch time d"],
        lengths: Integer[Array, "*batch"] | None = None,
    ) -> tuple[PyTree, Array]:
        xs = real("xs", xs)
        if xs.ndim < 2:
            raise ValueError(f"xs: expected shape (*batch, time, features), got {xs.shape}")
        time = xs.shape[-2]
        lengths = None if lengths is None else laid_along(checked_lengths(lengths, xs.shape[:-2], time), xs)
        if lengths is not None:  # what is past a length reaches no derivative either, should it be NaN
            t = lax.broadcasted_iota(jnp.int32, xs.shape[:-1], xs.ndim - 2)
            there = t < jnp.broadcast_to(lengths[..., None], t.shape)
            xs = jnp.where(_over(laid_along(there, xs), xs), xs, jnp.zeros_like(xs))

        def step(carry, at):
            t, x = at
            after, y = cell.apply(params, carry, x)
            if lengths is None:
                return after, y
            there = t < lengths
            after = jax.tree.map(lambda new, old: jnp.where(_over(there, new), new, old), after, carry)
            return after, jnp.where(_over(there, y), y, jnp.zeros_like(y))

        carry, ys = lax.scan(step, carry, (jnp.arange(time, dtype=jnp.int32), jnp.moveaxis(xs, -2, 0)), reverse=reverse)
        return carry, jnp.moveaxis(ys, 0, -2)

    return StatefulLayer(cell.init, apply, cell.initial)


def bidirectional(forward: StatefulLayer, backward: StatefulLayer) -> StatefulLayer:
    """Two cells over time, one from each end; their outputs side by side.

    Returns:
      StatefulLayer with params {"forward": ..., "backward": ...}, the carry a pair, ys (*batch, time, both's features).
    Source: Schuster and Paliwal 1997.
    Example:
      >>> layer = layers.bidirectional(layers.rnn_cell(3, 4), layers.rnn_cell(3, 4))
      >>> sorted(layer.init(jax.random.key(0)))
      ['backward', 'forward']
    """
    first, second = recurrent(forward), recurrent(backward, reverse=True)

    def init(key: Key) -> Params:
        keys = jax.random.split(arguments.key("key", key))
        return {"forward": first.init(keys[0]), "backward": second.init(keys[1])}

    def apply(params: Params, carry: tuple[PyTree, PyTree], xs: Array, lengths: Any = None):
        of_first, of_second = entry("params", params, "forward"), entry("params", params, "backward")
        with layer_path("forward"):
            before, y = first.apply(of_first, carry[0], xs, lengths)
        with layer_path("backward"):
            after, z = second.apply(of_second, carry[1], xs, lengths)
        return (before, after), jnp.concatenate([y, z], axis=-1)

    def initial(*args: Any, **options: Any) -> tuple[PyTree, PyTree]:
        return first.initial(*args, **options), second.initial(*args, **options)

    return StatefulLayer(init, apply, initial)


def checked_lengths(lengths: Any, batch: tuple[int, ...], time: int) -> Integer[Array, "*batch"]:
    """The lengths of sequences, int32; refused where one does not lie in [0, time]."""
    lengths = array("lengths", lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths: expected integers, got dtype {lengths.dtype}")
    if lengths.shape != batch:
        raise ValueError(f"lengths: expected shape {batch}, one for each sequence, got {lengths.shape}")
    values = concrete(lengths)
    if values is not None and ((values < 0) | (values > time)).any():
        bad = values[(values < 0) | (values > time)].flat[0]
        raise ValueError(f"lengths: expected integers in [0, {time}], the time axis, got {bad}")
    return lengths.astype(jnp.int32)


def _over(mask, x):
    return jnp.broadcast_to(jnp.expand_dims(mask, tuple(range(mask.ndim, x.ndim))), x.shape)
