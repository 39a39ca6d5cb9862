"""Convolutional networks in stages: LeNet's form and VGG's."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, overload

import jax
from jax.typing import DTypeLike

from functional_dl import arguments, initializers, layers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import described, entry, integer, real
from functional_dl.layers.layer import layer_path
from functional_dl.layers.windows import Padding, check_fits, pads
from functional_dl.models.model import Model, StatefulModel
from functional_dl.models.parts import Function, function_of, keys_of, layers_of, listed, present

Form: TypeAlias = Literal["lenet", "vgg"]
Pool: TypeAlias = Literal["average", "max"]


class _Form(NamedTuple):
    """What a form's name stands for."""

    stages: tuple[tuple[int, ...], ...]
    hidden: tuple[int, ...]
    window: int
    pool: Pool
    activation: Function


FORMS: dict[str, _Form] = {
    "lenet": _Form(((6,), (16,)), (120, 84), 5, "average", "tanh"),
    "vgg": _Form(((32, 32), (64, 64), (128, 128)), (128,), 3, "max", "relu"),
}
POOLS: dict[str, Callable[..., Array]] = {"average": layers.average_pool, "max": layers.max_pool}


class _Options(TypedDict, total=False):
    """Of both overloads."""

    stages: Sequence[Sequence[int]] | None
    hidden: Sequence[int] | None
    window: int | None
    padding: Padding
    pool: Pool | None
    activation: Function | None
    dropout_rate: float
    momentum: float
    epsilon: float
    initializer: initializers.Name | Callable[..., Array]
    dtype: DTypeLike | None


@overload
def cnn(
    space: int | Sequence[int],
    in_features: int,
    classes: int,
    form: Form = ...,
    *,
    batch_norm: Literal[False] = ...,
    **options: Unpack[_Options],
) -> Model: ...


@overload
def cnn(
    space: int | Sequence[int],
    in_features: int,
    classes: int,
    form: Form = ...,
    *,
    batch_norm: Literal[True],
    **options: Unpack[_Options],
) -> StatefulModel: ...


def cnn(
    space: int | Sequence[int],
    in_features: int,
    classes: int,
    form: Form = "lenet",
    *,
    batch_norm: bool = False,
    stages: Sequence[Sequence[int]] | None = None,
    hidden: Sequence[int] | None = None,
    window: int | None = None,
    padding: Padding = "same",
    pool: Pool | None = None,
    activation: Function | None = None,
    dropout_rate: float = 0.0,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    initializer: initializers.Name | Callable[..., Array] = "he_normal",
    dtype: DTypeLike | None = None,
) -> Model | StatefulModel:
    """Stages of convolutions with a pooling after each, then dense layers:

    a <- f(norm(conv a)) for each width of a stage,  a <- pool_2(a) after it;  a <- f(a W + b),  logits z = a W + b.

    The pullback runs the layers' own from the last to the first (`conv`, `max_pool`, `average_pool`, `batch_norm`,
    `dense`), with z_bar = a_bar f'(z) at each activation.

    "lenet": stages (6), (16), window 5, average pooling, tanh, hidden layers 120 and 84; with padding="valid" on
    images of 32 x 32 LeNet-5 with every channel connected.  "vgg": pairs of convolutions of window 3 with 32, 64 and
    128 channels, max pooling, relu, a hidden layer of 128.  Each of these may be given by itself.

    Args:
      space: sizes of the one to three axes of space, such as (8, 8).
      in_features: channels of the input.
      classes: logits.
      form: what the next arguments are where they are not given.
      batch_norm: a batch norm after each convolution, which then has no bias.
      stages: widths of the convolutions of each stage.
      hidden: widths of the dense layers before the last.
      window, padding: of the convolutions, as of `layers.conv`, the same along each axis.
      pool: "max" or "average", of two places along each axis.
      activation: a name, an Activation or a function.
      dropout_rate: of the hidden dense layers, in [0, 1).
      momentum, epsilon: of the batch norms.
      initializer, dtype: of the weights, as of `layers.dense`.
    Returns:
      Model with apply(params, x, *, key=None, deterministic=False), x (*batch, *space, in_features), logits
      (*batch, classes); params {"stages": [[{"conv": ..., "norm": ...}, ...], ...], "head": [dense, ...]}.
      With batch_norm StatefulModel, apply(params, moments, x, deterministic=False, *, weights=None, key=None) ->
      (moments, logits), weights as of `layers.batch_norm`; initial() -> moments.

      Number of parameters: window^axes c_in c_out + c_out for each convolution (+ 2 c_out instead with batch_norm),
      n_in n_out + n_out for each dense layer, the first with the places that are left times the last width as inputs.
    Raises:
      ValueError: no such form or pooling; space too small for its windows; x, moments or params do not fit.
      TypeError: a size is no integer; x is no array of real numbers.
    Kinks: those of the activation and of max pooling.
    Source: LeCun, Bottou, Bengio, Haffner 1998; Simonyan and Zisserman 2015.

    Example:
      >>> model = models.cnn(28, 1, 10)
      >>> model.apply(model.init(jax.random.key(0)), jnp.ones((2, 28, 28, 1))).shape
      (2, 28, 10)
    """
    arguments.choice("form", form, FORMS)
    of = FORMS[form]
    pool = of.pool if pool is None else pool
    arguments.choice("pool", pool, POOLS)
    widths = [_widths(f"stages[{i}]", stage) for i, stage in enumerate(of.stages if stages is None else stages)]
    heads = _widths("hidden", of.hidden if hidden is None else hidden, 0)
    sizes = _widths("space", (space,) if isinstance(space, int) else space)
    if len(sizes) > 3:
        raise ValueError(f"space: expected one to three axes, got {sizes}")
    rank = len(sizes)
    windows = (integer("window", of.window if window is None else window),) * rank
    function, pooled = function_of(of.activation if activation is None else activation), POOLS[pool]
    arguments.within("dropout_rate", dropout_rate, 0.0, 1.0, open_right=True)
    left = _space_left(sizes, [len(stage) for stage in widths], windows, padding)

    convs, features = [], integer("in_features", in_features)
    for stage in widths:
        ins = (features, *stage)
        options = {"padding": padding, "use_bias": not batch_norm, "initializer": initializer, "dtype": dtype}
        convs.append([layers.conv(*pair, windows, **options) for pair in pairwise(ins)])
        features = ins[-1]
    norms = [[layers.batch_norm(c, momentum, epsilon, dtype=dtype) for c in stage] for stage in widths]
    for size in left:
        features *= size
    head_sizes = (features, *heads, integer("classes", classes))
    dense = [layers.dense(*pair, initializer=initializer, dtype=dtype) for pair in pairwise(head_sizes)]

    def init(key: Key) -> Params:
        for_stages, for_head = jax.random.split(arguments.key("key", key))
        keys = iter(jax.random.split(for_stages, sum(map(len, convs))))
        made = []
        for stage, stage_norms in zip(convs, norms):
            made.append([])
            for conv, norm, k in zip(stage, stage_norms, keys):
                made[-1].append({"conv": conv.init(k)} | ({"norm": norm.init(k)} if batch_norm else {}))
        head = [layer.init(k) for layer, k in zip(dense, jax.random.split(for_head, len(dense)))]
        return {"stages": made, "head": head}

    def by_stages(name, tree):
        found = enumerate(layers_of(name, tree, "stages", len(convs)))
        return [listed(f"{name}['stages'][{s}]", stage, len(convs[s])) for s, stage in found]

    def forward(params, moments, x, deterministic, weights, key):
        x = real("x", x)
        if x.ndim <= rank or x.shape[-rank - 1 : -1] != sizes:
            expected = ", ".join(["*batch", *map(str, sizes), str(in_features)])
            raise ValueError(f"x: expected shape ({expected}), axes {-rank - 1} to -2 being space, got {x.shape}")
        x = present(x, weights)
        moved = []
        for s, stage in enumerate(by_stages("params", params)):
            moved.append([])
            for i, given in enumerate(stage):
                with layer_path(f"stages/{s}/{i}"):
                    weight = entry("params", given, "conv")
                    with layer_path("conv"):
                        x = convs[s][i].apply(weight, x)
                    if batch_norm:
                        scale, before = entry("params", given, "norm"), entry("moments", moments[s][i], "norm")
                        with layer_path("norm"):
                            after, x = norms[s][i].apply(scale, before, x, deterministic, weights)
                        moved[-1].append({"norm": after})
                    x = function(x)
            with layer_path(f"stages/{s}/pool"):
                x = pooled(x, (2,) * rank)
        x = x.reshape(*x.shape[: x.ndim - rank - 1], head_sizes[0])
        keys = keys_of(key, len(dense))
        for l, given in enumerate(layers_of("params", params, "head", len(dense))):
            with layer_path(f"head/{l}"):
                x = dense[l].apply(given, x)
                if l < len(dense) - 1:
                    x = layers.dropout(keys[l], function(x), dropout_rate, deterministic)
        return {"stages": moved}, x

    def apply(params: Params, x: Array, *, key: Key | None = None, deterministic: bool = False) -> Array:
        return forward(params, None, x, deterministic, None, key)[1]

    def apply_with_moments(
        params: Params,
        moments: Params,
        x: Array,
        deterministic: bool = False,
        *,
        weights: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Params, Array]:
        return forward(params, by_stages("moments", moments), x, deterministic, weights, key)

    def initial(dtype: DTypeLike | None = dtype) -> Params:
        return {"stages": [[{"norm": norm.initial(dtype)} for norm in stage] for stage in norms]}

    return StatefulModel(init, apply_with_moments, initial) if batch_norm else Model(init, apply)


def _widths(name: str, sizes: Any, least: int = 1) -> tuple[int, ...]:
    """At least so many positive integers."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(f"{name}: expected a sequence of integers, got {described(sizes)}")
    if len(sizes) < least:
        raise ValueError(f"{name}: expected at least {least} integer, got none")
    return tuple(integer(f"{name}[{i}]", size) for i, size in enumerate(sizes))


def _space_left(space, counts, windows, padding) -> tuple[int, ...]:
    """Sizes after all stages; refused where a window does not find its place."""
    ones = (1,) * len(space)
    for s, count in enumerate(counts):
        for i in range(count):
            padded = pads(padding, space, windows, ones)
            with layer_path(f"stages/{s}/{i}/conv"):
                check_fits("space", space, windows, padded)
            space = tuple(n + low + high - w + 1 for n, w, (low, high) in zip(space, windows, padded))
        with layer_path(f"stages/{s}/pool"):
            check_fits("space", space, (2,) * len(space), ((0, 0),) * len(space))
        space = tuple(n // 2 for n in space)
    return space
