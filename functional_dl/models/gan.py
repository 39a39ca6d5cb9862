"""Generative adversarial network of images: a generator and a critic, convolutional, and what each is trained on."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import activations, arguments, initializers, layers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import choice, entry, integer, number, real
from functional_dl.layers.layer import layer_path
from functional_dl.models.parts import layers_of
from functional_dl.precision import of_sums
from functional_dl.sharding import broadcast_like

Loss: TypeAlias = Literal["non_saturating", "wasserstein"]
LOSSES = ("non_saturating", "wasserstein")
Norm: TypeAlias = Literal["layer", "none"]
NORMS = ("layer", "none")
SLOPE = 0.2  # of the critic's leaky rectifier, DCGAN's
EPSILON = 1e-5


class GAN(NamedTuple):
    """A Model, whose apply is the generator, with the critic and the losses of both besides."""

    init: Callable[..., Params]
    apply: Callable[..., Array]
    generate: Callable[..., Array]
    discriminate: Callable[..., Array]
    generator_loss: Callable[..., Array]
    discriminator_loss: Callable[..., Array]
    penalty: Callable[..., Array]


def gan(
    size: int,
    channels: int = 1,
    *,
    latent: int = 64,
    width: int = 32,
    loss: Loss = "non_saturating",
    norm: Norm = "layer",
    gradient_weight: float = 10.0,
    differentiate: Callable[..., Any] | None = None,
    initializer: initializers.Name | Callable[..., Array] = "glorot_normal",
    dtype: DTypeLike | None = None,
) -> GAN:
    """Convolutional GAN of square images, size = 4 * 2^k: a generator G from noise z and a critic D, each of k blocks.

    G: a dense layer to (4, 4, c_0), then blocks of norm, ReLU and a transposed convolution that doubles the size,
    c_i = width 2^(k-1-i), c_k = channels; tanh at the end.  D: blocks of a convolution that halves the size, norm (not
    in the first) and leaky ReLU (slope 0.2), d_0 = channels, d_i = width 2^(i-1); then a dense layer to one number.
    All windows are (4, 4), stride 2, padding 1.  Per example, with z ~ N(0, I):

        non_saturating:  D's loss softplus(-D(x)) + softplus(D(G(z))),  G's softplus(-D(G(z)))
        wasserstein:     D's loss D(G(z)) - D(x) + gradient_weight (|grad D(y)| - 1)^2,  G's -D(G(z)),
                         y = u x + (1 - u) G(z),  u ~ U[0, 1], the gradient by the image y

    grad D(y) by hand, from the end: a_bar = the dense layer's weight; n_bar = a_bar leaky'(n); of a norm with scale s,
    h_bar = r (w - mean w - m mean(w m)), w = s n_bar, m = standardize(h); y_bar = the transposed convolution of h_bar
    by the same weight.  Its derivative by the params is of second order: reverse mode over this reverse pass.

    (latent + 1) 16 c_0 + sum over i of (16 c_{i-1} c_i + c_i + 2 c_{i-1}) of G, and
    sum over i of (16 d_{i-1} d_i + d_i) + 2 (d_2 + ... + d_k) + 16 d_k + 1 of D, parameters; the terms in 2 are the
    norms'.

        model = gan(8, latent=16, loss="wasserstein")
        params = model.init(jax.random.key(0))
        z = jax.random.normal(jax.random.key(1), (n, 16))
        loss = jnp.mean(model.discriminator_loss(params, x, z, key=jax.random.key(2)))     # x (n, 8, 8, 1) in [-1, 1]
        images = model.generate(params, jax.random.key(3), (16,))

    Args:
      size: of an image's side, 8, 16, 32, ...
      channels: of an image.
      latent: entries of z.
      width: channels of the widest maps, those next to the images.
      loss: which game is played.
      norm: "layer", over all of an example's map, with scale and bias of each channel; or "none".  A norm of the batch
        would make each critic's value depend on the other images, and the penalty is of each image's own.
      gradient_weight: of the penalty.
      differentiate: fun -> (function to (value, gradient of the first argument)), for grad D(y):
        `functional_dl.reverse.value_and_grad` or `jax.value_and_grad`, or by hand if None.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      GAN with params {"generator": {"dense", "blocks": [{"norm", "conv"}, ...]},
      "critic": {"blocks": [{"conv", "norm"}, ...], "dense"}};
      apply(params, z), (*batch, latent) -> images (*batch, size, size, channels) in (-1, 1);
      generate(params, key, shape=()) -> images of z drawn;  discriminate(params, x) -> D(x), (*batch,);
      generator_loss(params, z) and discriminator_loss(params, x, z, *, key=None), per example, (*batch,); the key is
      for u.  Each has a gradient by its own half of the params alone, 0 by the other.
      penalty(params, y) -> (|grad D(y)| - 1)^2 of each image.
    Raises:
      ValueError: a size that is none; no such loss, norm or initializer; an image or z does not fit; x and z are not of
        one batch; the Wasserstein loss without a key; the params are another model's.
      TypeError: a size is no integer, dtype not floating, a key no PRNG key, differentiate no function.
    Kinks: those of the rectifiers; |grad D| at 0, whose derivative there is taken as 0.
    Source: Radford, Metz, Chintala 2016; Goodfellow et al. 2014; Gulrajani et al. 2017.
    Example:
      >>> model = models.gan(8, latent=4, width=2)
      >>> params = model.init(jax.random.key(0))
      >>> sorted(params)
      ['critic', 'generator']
    """
    doublings = integer("size", size, 8).bit_length() - 3
    if size != 4 << doublings:
        raise ValueError(f"size: expected 4 times a power of two (8, 16, 32, ...), got {size}")
    choice("loss", loss, LOSSES)
    choice("norm", norm, NORMS)
    number("gradient_weight", gradient_weight)
    if differentiate is not None:
        arguments.function("differentiate", differentiate)
    integer("width", width)
    wide = [width << i for i in reversed(range(doublings))]
    of_images = integer("channels", channels)
    up, down = [*wide, of_images], [of_images, *reversed(wide)]
    options: dict[str, Any] = {"initializer": initializer, "dtype": dtype}
    project = layers.dense(integer("latent", latent), 16 * up[0], **options)
    grow = [layers.conv_transpose(c, d, (4, 4), 2, 1, **options) for c, d in pairwise(up)]
    shrink = [layers.conv(c, d, (4, 4), 2, 1, **options) for c, d in pairwise(down)]
    adjoints = [layers.conv_transpose(d, c, (4, 4), 2, 1, use_bias=False) for c, d in pairwise(down)]
    score = layers.dense(16 * down[-1], 1, **options)
    normed = norm == "layer"

    def init(key: Key) -> Params:
        keys = iter(jax.random.split(arguments.key("key", key), 2 * doublings + 2))
        return {
            "generator": {
                "dense": project.init(next(keys)),
                "blocks": [
                    {**({"norm": _norm(c, 1).init(key)} if normed else {}), "conv": conv.init(next(keys))}
                    for c, conv in zip(up, grow)
                ],
            },
            "critic": {
                "blocks": [
                    {"conv": conv.init(next(keys)), **({"norm": _norm(d, 1).init(key)} if normed and i else {})}
                    for i, (d, conv) in enumerate(zip(down[1:], shrink))
                ],
                "dense": score.init(next(keys)),
            },
        }

    def apply(params: Params, z: Float[Array, "... latent"]) -> Float[Array, "... size size channels"]:
        of = entry("params", params, "generator")
        with layer_path("generator"):
            with layer_path("dense"):
                a = project.apply(entry("params", of, "dense"), z)
            a = a.reshape(*a.shape[:-1], 4, 4, up[0])
            for i, (conv, block) in enumerate(zip(grow, layers_of("params", of, "blocks", doublings))):
                with layer_path(f"blocks/{i}"):
                    if normed:
                        with layer_path("norm"):
                            a = _norm(up[i], a.ndim - 3).apply(entry("params", block, "norm"), a)
                    a = activations.relu(a)
                    with layer_path("conv"):
                        a = conv.apply(entry("params", block, "conv"), a)
            return activations.tanh(a)

    def generate(params: Params, key: Key, shape: tuple[int, ...] = ()) -> Float[Array, "... size size channels"]:
        leaves = jax.tree.leaves(entry("params", params, "generator"))
        return apply(params, jax.random.normal(arguments.key("key", key), (*shape, latent), jnp.result_type(*leaves)))

    def discriminate(params: Params, x: Float[Array, "... size size channels"]) -> Float[Array, "..."]:
        return forward(params, x)[0]

    def forward(params, x):
        """D(x), and of each block its convolution h and its norm n (h where there is none)."""
        x = _image("x", x, size, of_images)
        of, kept = entry("params", params, "critic"), []
        with layer_path("critic"):
            a = x
            for i, (conv, block) in enumerate(zip(shrink, layers_of("params", of, "blocks", doublings))):
                with layer_path(f"blocks/{i}"):
                    with layer_path("conv"):
                        h = n = conv.apply(entry("params", block, "conv"), a)
                    if normed and i:
                        with layer_path("norm"):
                            n = _norm(down[i + 1], h.ndim - 3).apply(entry("params", block, "norm"), h)
                    a = activations.leaky_relu(n, SLOPE)
                    kept.append((h, n))
            with layer_path("dense"):
                a = a.reshape(*a.shape[:-3], 16 * down[-1])
                return score.apply(entry("params", of, "dense"), a)[..., 0], kept

    def gradient(params, x):
        """grad D(x), as the docstring derives it."""
        if differentiate is not None:
            return differentiate(lambda x: jnp.sum(discriminate(params, x)))(x)[1]
        _, kept = forward(params, x)
        of = params["critic"]
        a_bar = jnp.broadcast_to(of["dense"]["weight"].reshape(4, 4, down[-1]), kept[-1][1].shape)
        for i in reversed(range(doublings)):
            (h, n), block = kept[i], of["blocks"][i]
            with layer_path(f"critic/blocks/{i}"):
                h_bar = a_bar * activations.leaky_relu_prime(n, SLOPE)
                if normed and i:
                    h_bar = _norm_pullback(block["norm"]["scale"], h, h_bar)
                a_bar = adjoints[i].apply({"weight": block["conv"]["weight"]}, h_bar)
        return a_bar

    def penalty(params: Params, y: Float[Array, "... size size channels"]) -> Float[Array, "..."]:
        squares = jnp.sum(jnp.square(gradient(params, _image("y", y, size, of_images))), (-3, -2, -1))
        positive = squares > 0  # chosen before the root, whose derivative at 0 is infinite
        return jnp.square(jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0) - 1)

    def generator_loss(params: Params, z: Float[Array, "... latent"]) -> Float[Array, "..."]:
        fixed = {**params, "critic": jax.tree.map(lax.stop_gradient, entry("params", params, "critic"))}
        of_fakes = discriminate(fixed, apply(params, z))
        return -of_fakes if loss == "wasserstein" else activations.softplus(-of_fakes)

    def discriminator_loss(
        params: Params,
        x: Float[Array, "... size size channels"],
        z: Float[Array, "... latent"],
        *,
        key: Key | None = None,
    ) -> Float[Array, "..."]:
        x, z = _image("x", x, size, of_images), real("z", z)
        if x.shape[:-3] != z.shape[:-1]:
            raise ValueError(f"z: expected the batch axes of x, {x.shape[:-3]}, got {z.shape[:-1]}")
        if loss == "wasserstein" and key is None:
            raise ValueError("key: expected a random key for the penalty's points, got None")
        fakes = lax.stop_gradient(apply(params, z))
        of_reals, of_fakes = discriminate(params, x), discriminate(params, fakes)
        if loss == "non_saturating":
            return activations.softplus(-of_reals) + activations.softplus(of_fakes)
        u = jax.random.uniform(arguments.key("key", key), (*x.shape[:-3], 1, 1, 1), fakes.dtype)
        u = broadcast_like(u, x)
        between = u * x + (1 - u) * fakes
        return of_fakes - of_reals + gradient_weight * penalty(params, between)

    return GAN(init, apply, generate, discriminate, generator_loss, discriminator_loss, penalty)


def _norm(features: int, batch_axes: int) -> layers.Layer:
    """Over all of an example's map, with a scale and a bias of each channel: one group."""
    return layers.group_norm(features, 1, epsilon=EPSILON, batch_axes=batch_axes)


def _norm_pullback(scale: Array, h: Array, n_bar: Array) -> Array:
    """h_bar = r (w - mean w - m mean(w m)),  w = scale n_bar,  m = (h - mean h) r,  r = 1 / sqrt(var h + epsilon)."""
    axes = (-3, -2, -1)
    wide = h.astype(of_sums(h.dtype))
    w = broadcast_like(scale, h).astype(wide.dtype) * n_bar.astype(wide.dtype)
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    r = lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + EPSILON)
    m = centred * r
    h_bar = r * (w - jnp.mean(w, axes, keepdims=True) - m * jnp.mean(w * m, axes, keepdims=True))
    return h_bar.astype(h.dtype)


def _image(name: str, x: Array, size: int, channels: int) -> Array:
    x = real(name, x)
    if x.shape[-3:] != (size, size, channels):
        raise ValueError(f"{name}: expected shape (*batch, {size}, {size}, {channels}), got {x.shape}")
    return x
