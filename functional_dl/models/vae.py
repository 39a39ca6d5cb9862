"""Variational autoencoder: a latent variable model and its approximate posterior, trained together."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import activations, arguments, initializers, losses
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import array, choice, entry, pair, shaped
from functional_dl.layers.layer import layer_path
from functional_dl.models.mlp import mlp, widths
from functional_dl.models.parts import Function

Likelihood: TypeAlias = Literal["bernoulli", "gaussian"]
# of an entry: the negative logarithm, in nats, from the decoder's output; and the mean from that
LIKELIHOODS: dict[str, tuple[Callable[..., Array], Callable[[Array], Array]]] = {
    "bernoulli": (losses.sigmoid_cross_entropy, activations.sigmoid),
    "gaussian": (losses.gaussian_nll, activations.identity),
}


class VAE(NamedTuple):
    """A Model with its parts besides: encode, decode, loss (the negative ELBO of each example) and sample."""

    init: Callable[..., Params]
    apply: Callable[..., tuple[Array, Array, Array]]
    encode: Callable[..., tuple[Array, Array]]
    decode: Callable[..., Array]
    loss: Callable[..., Array]
    sample: Callable[..., Array]


def vae(
    sizes: Sequence[int],
    activation: Function = "relu",
    *,
    likelihood: Likelihood = "bernoulli",
    initializer: initializers.Name | Callable[..., Array] = "he_normal",
    dtype: DTypeLike | None = None,
) -> VAE:
    """Variational autoencoder: p(z) = N(0, I), p(x | z) by a decoder, q(z | x) = N(m, diag exp s) by an encoder.

    z = m + exp(s/2) e,  e ~ N(0, I), has the distribution q, and z_bar reaches the encoder through it:
    m_bar = z_bar,  s_bar = z_bar e exp(s/2) / 2.  The loss is -ELBO = E_q[-log p(x | z)] + KL(q || p), with one draw of
    z for the expectation and
        KL = E_q[log q - log p] = sum over j of (m_j^2 + exp(s_j) - 1 - s_j) / 2,
    for E_q[log q] = -(log 2 pi + 1 + s_j) / 2 and E_q[log p] = -(log 2 pi + m_j^2 + exp(s_j)) / 2, each j;
    dKL/dm = m,  dKL/ds = (exp(s) - 1) / 2.
    Of sizes n_0, ..., n_L:  sum over l of 2 n_{l-1} n_l + n_{l-1} + n_l, and (n_{L-1} + 1) n_L for s, parameters.

        model = vae((64, 32, 2))
        params = model.init(jax.random.key(0))
        loss = jnp.mean(model.loss(params, x, key=jax.random.key(1)))
        images = model.sample(params, jax.random.key(2), (16,))      # (16, 64)

    Args:
      sizes: widths from input to latent variables, (in, hidden, ..., latent); the decoder has them reversed.
      activation: of the hidden layers of both.
      likelihood: "bernoulli", x in [0, 1] and the decoder's output its log-odds; or "gaussian", any x, the decoder's
        output its mean and its variance 1.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      VAE with params {"encoder": {"layers": [...]}, "decoder": {"layers": [...]}}, each an mlp's, the encoder's last
      layer (m, s) side by side;
      apply(params, x, *, key=None, noise=None, deterministic=False) -> (logits, m, s): the decoder's output at z, whose
        e is drawn with the key, or is the noise given, (*batch, latent), or is 0 (deterministic=True);
      encode(params, x) -> (m, s);  decode(params, z) -> logits;
      loss(params, x, *, key=None, noise=None, deterministic=False) -> -ELBO of each example, (*batch,), in nats;
      sample(params, key, shape=()) -> means of p(x | z) for z drawn from p, (*shape, in).
    Raises:
      ValueError: fewer than two sizes, or one that is not positive; no such activation, initializer or likelihood; x, z
        or the noise does not fit; neither key nor noise where e is wanted; the params are another model's.
      TypeError: sizes is no sequence of integers, dtype not floating; a key is no PRNG key.
    Kinks: the activations'.  Numerics: s is a logarithm, so that no variance is negative; the KL term overflows with
      exp(s).
    Source: Kingma and Welling 2014, appendix B; Rezende, Mohamed, Wierstra 2014.
    Example:
      >>> model = models.vae([8, 4, 2])
      >>> params = model.init(jax.random.key(0))
      >>> sorted(params)
      ['decoder', 'encoder']
    """
    sizes = widths("sizes", sizes)
    choice("likelihood", likelihood, LIKELIHOODS)
    nll, mean_of = LIKELIHOODS[likelihood]
    latent = sizes[-1]
    encoder = mlp((*sizes[:-1], 2 * latent), activation, initializer=initializer, dtype=dtype)
    decoder = mlp(sizes[::-1], activation, initializer=initializer, dtype=dtype)

    def init(key: Key) -> Params:
        to_latent, back = jax.random.split(arguments.key("key", key))
        return {"encoder": encoder.init(to_latent), "decoder": decoder.init(back)}

    def encode(params: Params, x: Float[Array, "... d"]) -> tuple[Float[Array, "... c"], Float[Array, "... c"]]:
        of = entry("params", params, "encoder")
        with layer_path("encoder"):
            both = encoder.apply(of, x)
        return both[..., :latent], both[..., latent:]

    def decode(params: Params, z: Float[Array, "... c"]) -> Float[Array, "... d"]:
        of = entry("params", params, "decoder")
        with layer_path("decoder"):
            return decoder.apply(of, z)

    def apply(
        params: Params,
        x: Float[Array, "... d"],
        *,
        key: Key | None = None,
        noise: Float[Array, "... c"] | None = None,
        deterministic: bool = False,
    ) -> tuple[Float[Array, "... d"], Float[Array, "... c"], Float[Array, "... c"]]:
        m, s = encode(params, x)
        z = m if deterministic else m + jnp.exp(s / 2) * _noise(key, noise, s)
        return decode(params, z), m, s

    def loss(
        params: Params,
        x: Float[Array, "... d"],
        *,
        key: Key | None = None,
        noise: Float[Array, "... c"] | None = None,
        deterministic: bool = False,
    ) -> Float[Array, "..."]:
        logits, m, s = apply(params, x, key=key, noise=noise, deterministic=deterministic)
        _, targets = pair("logits", logits, "x", array("x", x))
        return jnp.sum(nll(logits, targets), -1) + kl_to_normal(m, s)

    def sample(params: Params, key: Key, shape: tuple[int, ...] = ()) -> Float[Array, "... d"]:
        leaves = jax.tree.leaves(entry("params", params, "decoder"))
        z = jax.random.normal(arguments.key("key", key), (*shape, latent), jnp.result_type(*leaves))
        return mean_of(decode(params, z))

    return VAE(init, apply, encode, decode, loss, sample)


def kl_to_normal(m: Float[Array, "... c"], s: Float[Array, "... c"]) -> Float[Array, "..."]:
    """KL(N(m, diag exp s) || N(0, I)) = sum over j of (m_j^2 + exp(s_j) - 1 - s_j) / 2, in nats."""
    return jnp.sum(jnp.square(m) + jnp.expm1(s) - s, -1) / 2


def _noise(key: Key | None, noise: Array | None, like: Array) -> Array:
    if noise is not None:
        return shaped("noise", noise, like.shape).astype(like.dtype)
    if key is None:
        raise ValueError("key: expected a random key (or noise, or deterministic=True), got None")
    return jax.random.normal(arguments.key("key", key), like.shape, like.dtype)
