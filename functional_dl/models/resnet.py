"""Residual networks in their form for small images."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
from jax import lax
from jax.typing import DTypeLike

from functional_dl import arguments, initializers, layers
from functional_dl.activations import relu
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import entry, integer, real
from functional_dl.layers.layer import Layer, StatefulLayer, layer_path
from functional_dl.models.model import StatefulModel
from functional_dl.models.parts import layers_of, listed, present

Shortcut: TypeAlias = Literal["padding", "projection"]
SHORTCUTS = ("padding", "projection")


def resnet(
    depth: int,
    in_features: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "padding",
    pre_activation: bool = False,
    zero_init: bool = False,
    axes: int = 2,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    initializer: initializers.Name | Callable[..., Array] = "he_normal",
    dtype: DTypeLike | None = None,
) -> StatefulModel:
    """A residual network: a convolution, stages of n blocks each, the mean over space, a dense layer.

    A block is y = relu(s(x) + F(x)),  F = norm2 conv2 relu norm1 conv1;  with pre_activation y = s(x) + F(x),
    F = conv2 relu norm2 conv1 relu norm1.  s is the identity, except at a stage's first block, which halves the space
    (the stride of s and of conv1 is 2) and widens the channels.

    y_bar given, with z_bar = y_bar 1[z > 0] of z = s(x) + F(x) (z_bar = y_bar with pre_activation):

      x_bar = s'^T z_bar + F'(x)^T z_bar,   s'^T z_bar = z_bar where s is the identity:

    through the shortcuts the last layer's cotangent arrives at each block as it is, which is why depth does not make it
    vanish.

    Args:
      depth: 2 n len(widths) + 2: of three stages 6 n + 2, such as 20, 32, 44, 56, 110.  It counts conv and dense
        layers, a projection not.
      in_features: channels of the input.
      classes: logits.
      widths: channels of each stage; they do not shrink with shortcut="padding".
      shortcut: s where the shape changes: "padding", every second place with zero channels behind (option A, no
        parameters), or "projection", a convolution of window 1 and a norm (option B; with pre_activation a convolution
        alone, of relu norm1 x).
      pre_activation: norm and relu before each convolution, and once more after the last block.
      zero_init: F = 0 at first: norm2's scale is 0; with pre_activation conv2's weight, for behind a scale of 0 the
        relu's derivative would be 0 too.
      axes: of space, 1 to 3.
      momentum, epsilon: of the batch norms.
      initializer, dtype: of the weights, as of `layers.conv`.
    Returns:
      StatefulModel with params {"stem": {"conv", "norm"}, "stages": [[{"conv1", "norm1", "conv2", "norm2",
      "projection": {"conv", "norm"}}, ...], ...], "norm", "head"}, the stem's norm without and the last norm with
      pre_activation;
      apply(params, moments, x, deterministic=False, *, weights=None) -> (moments, logits), x (*batch, *space,
      in_features) with any space, logits (*batch, classes), weights as of `layers.batch_norm`;
      initial() -> moments, under the same names.

      Number of parameters, with w = 3^axes and k for the widths: w k c + 2 k for each convolution from c channels and
      its norm, + (c k + 2 k) for a projection, + (k + 1) classes; with pre_activation a norm has 2 c before its
      convolution, the last one 2 k, and a projection c k.
    Raises:
      ValueError: depth is not of that form; no such shortcut; x, moments or params do not fit.
      TypeError: a size is no integer; x is no array of real numbers.
    Kinks: relu's, at 0.
    Numerics: windows of 3 are padded by 1 on both sides, also where the stride is 2 and "same" would pad one side.
    Source: He, Zhang, Ren, Sun 2016, Deep residual learning, section 4.2; pre_activation: Identity mappings in deep
      residual networks, 2016; zero_init: Goyal et al. 2017.

    Example:
      >>> model = models.resnet(8, 1, 10, widths=(4, 8, 8))
      >>> params = model.init(jax.random.key(0))
      >>> _, logits = model.apply(params, model.initial(), jnp.ones((2, 8, 8, 1)))
      >>> logits.shape
      (2, 10)
    """
    arguments.choice("shortcut", shortcut, SHORTCUTS)
    if not isinstance(widths, Sequence) or isinstance(widths, str) or not widths:
        raise ValueError(f"widths: expected a sequence of channels, one for each stage, got {widths!r}")
    sizes = [integer(f"widths[{i}]", width) for i, width in enumerate(widths)]
    per_block, spare = divmod(integer("depth", depth) - 2, 2 * len(sizes))
    if spare or per_block < 1:
        first = [2 * len(sizes) * n + 2 for n in (1, 2, 3)]
        raise ValueError(
            f"depth: expected {2 * len(sizes)} n + 2 for {len(sizes)} stages ({first[0]}, {first[1]}, {first[2]}, "
            f"...), got {depth}"
        )
    if integer("axes", axes) > 3:
        raise ValueError(f"axes: expected 1 to 3 axes of space, got {axes}")
    options = {"use_bias": False, "initializer": initializer, "dtype": dtype}

    def conv(ins: int, outs: int, stride: int = 1, window: int = 3) -> Layer:
        return layers.conv(ins, outs, (window,) * axes, stride, window // 2, **options)

    def norm(features: int) -> StatefulLayer:
        return layers.batch_norm(features, momentum, epsilon, dtype=dtype)

    def block(ins: int, outs: int, stride: int) -> dict[str, Layer | StatefulLayer]:
        made = {
            "conv1": conv(ins, outs, stride),
            "norm1": norm(ins if pre_activation else outs),
            "conv2": conv(outs, outs),
            "norm2": norm(outs),
        }
        if shortcut == "projection" and (stride > 1 or ins != outs):
            made["projection/conv"] = conv(ins, outs, stride, 1)
            if not pre_activation:
                made["projection/norm"] = norm(outs)
        return made

    stem = {"conv": conv(integer("in_features", in_features), sizes[0])} | (
        {} if pre_activation else {"norm": norm(sizes[0])}
    )
    stages, strides, before = [], [], sizes[0]
    for s, width in enumerate(sizes):
        if shortcut == "padding" and width < before:
            raise ValueError(f"widths[{s}]: expected at least {before} channels to pad to, got {width}")
        strides.append([2 if s > 0 and i == 0 else 1 for i in range(per_block)])
        stages.append([block(before if i == 0 else width, width, stride) for i, stride in enumerate(strides[s])])
        before = width
    last = {"norm": norm(before)} if pre_activation else {}
    head = layers.dense(before, integer("classes", classes), initializer=initializer, dtype=dtype)

    def init(key: Key) -> Params:
        first, middle, end = jax.random.split(arguments.key("key", key), 3)
        keys = iter(jax.random.split(middle, depth))
        made = [[_nested({n: l.init(k) for (n, l), k in _with_keys(b, next(keys))}) for b in stage] for stage in stages]
        if zero_init:
            at, what = ("conv2", "weight") if pre_activation else ("norm2", "scale")
            for each in [b for stage in made for b in stage]:
                each[at] = {**each[at], what: each[at][what] * 0}
        return {
            "stem": {name: layer.init(k) for (name, layer), k in _with_keys(stem, first)},
            "stages": made,
            **{name: layer.init(end) for name, layer in last.items()},
            "head": head.init(end),
        }

    def initial(dtype: DTypeLike | None = dtype) -> Params:
        def of(found):
            norms = {name: layer for name, layer in found.items() if isinstance(layer, StatefulLayer)}
            return _nested({name: layer.initial(dtype) for name, layer in norms.items()})

        return {"stem": of(stem), "stages": [[of(b) for b in stage] for stage in stages], **of(last)}

    def apply(
        params: Params, moments: Params, x: Array, deterministic: bool = False, *, weights: Array | None = None
    ) -> tuple[Params, Array]:
        x = real("x", x)
        if x.ndim < axes + 1 or x.shape[-1] != in_features:
            shape = ", ".join(["*batch", *("space",) * axes, str(in_features)])
            with layer_path("stem/conv"):
                raise ValueError(f"x: expected shape ({shape}), got {x.shape}")
        x = present(x, weights)

        def run(found: dict[str, Any], params: Any, moments: Any, moved: dict, name: str, x: Array) -> Array:
            """A layer by its name; a norm's new moments go into `moved`."""
            layer, path = found[name], name.split("/")
            for part in path:
                params = entry("params", params, part)
            with layer_path(name):
                if isinstance(layer, Layer):
                    return layer.apply(params, x)
                for part in path:
                    moments = entry("moments", moments, part)
                moved[name], x = layer.apply(params, moments, x, deterministic, weights)
                return x

        def of_block(found, stride, params, moments, x):
            moved = {}

            def layer(name, x):
                return run(found, params, moments, moved, name, x)

            short = x
            if pre_activation:
                x = relu(layer("norm1", x))
                short = layer("projection/conv", x) if "projection/conv" in found else short
                x = layer("conv2", relu(layer("norm2", layer("conv1", x))))
            else:
                x = layer("norm2", layer("conv2", relu(layer("norm1", layer("conv1", x)))))
                if "projection/conv" in found:
                    short = layer("projection/norm", layer("projection/conv", short))
            if "projection/conv" not in found:
                short = _padded(short, stride, x.shape[-1], axes)
            return _nested(moved), (short + x if pre_activation else relu(short + x))

        moved = {"stem": {}, "stages": []}
        with layer_path("stem"):
            given, before = entry("params", params, "stem"), entry("moments", moments, "stem")
            x = run(stem, given, before, moved["stem"], "conv", x)
            if not pre_activation:
                x = relu(run(stem, given, before, moved["stem"], "norm", x))
        made = layers_of("params", params, "stages", len(stages))
        running = layers_of("moments", moments, "stages", len(stages))
        for s, stage in enumerate(stages):
            given = listed(f"params['stages'][{s}]", made[s], per_block)
            before = listed(f"moments['stages'][{s}]", running[s], per_block)
            moved["stages"].append([])
            for i, found in enumerate(stage):
                with layer_path(f"stages/{s}/{i}"):
                    after, x = of_block(found, strides[s][i], given[i], before[i], x)
                moved["stages"][s].append(after)
        if pre_activation:
            x = relu(run(last, params, moments, moved, "norm", x))
        x = layers.global_average_pool(x, axes)
        given = entry("params", params, "head")
        with layer_path("head"):
            return moved, head.apply(given, x)

    return StatefulModel(init, apply, initial)


def _padded(x: Array, stride: int, features: int, axes: int) -> Array:
    """Every `stride`-th place, with channels of zeros behind."""
    for axis in range(x.ndim - axes - 1, x.ndim - 1):
        x = lax.slice_in_dim(x, 0, x.shape[axis], stride, axis)
    behind = [(0, 0, 0)] * (x.ndim - 1) + [(0, features - x.shape[-1], 0)]
    return lax.pad(x, x.dtype.type(0), behind)


def _with_keys(found, key):
    return zip(found.items(), jax.random.split(key, len(found)))


def _nested(found):
    """{"a/b": x, ...} as {"a": {"b": x}, ...}."""
    made = {}
    for name, value in found.items():
        *above, leaf = name.split("/")
        place = made
        for part in above:
            place = place.setdefault(part, {})
        place[leaf] = value
    return made
