"""Backpropagation through a dense network, as the textbook's four formulas.

Forward, for layers l = 1..L, examples as rows (a^0 = x):

    z^l = a^{l-1} W^l + b^l,    a^l = f_l(z^l),    loss = mean over the per-example losses l(a^L, y).

Backward, with delta^l = dloss/dz^l (a derivative with respect to z, not to a):

    (1)  delta^L = dloss/da^L * f_L'(z^L)
    (2)  delta^l = (delta^{l+1} W^{l+1}^T) * f_l'(z^l)
    (3)  dloss/dW^l = a^{l-1}^T delta^l
    (4)  dloss/db^l = sum over examples of delta^l

* is entry by entry.  Texts with examples as columns write (W^{l+1})^T delta^{l+1} and
delta^l (a^{l-1})^T for the same.
Where f_l is softmax, which mixes entries, f' is a Jacobian J and "* f_l'(z^l)" becomes J^T on each row.

The mean is over all of the loss's array: n examples for a loss that sums over classes, n times k entries for
one that works entry by entry.  Its 1/n stands in every delta.  A half is there where the loss has it
(half_squared_error) and nowhere else.  All derivatives are the hand-written ones of the tables; none is taken
by JAX.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Float

from functional_dl import activations, layers, losses
from functional_dl.activations import Activation, sigmoid, softmax
from functional_dl.aliases import Array, Params, Scalar
from functional_dl.arguments import array, entry, real
from functional_dl.losses import Loss
from functional_dl.models.mlp import per_layer
from functional_dl.sharding import sharding_like

__all__ = ["gradients", "output_delta", "through"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def gradients(
    params: Params,
    x: Float[Array, "n d"],
    y: Array,
    activation: activations.Name | Activation | Sequence[activations.Name | Activation] = "relu",
    loss: losses.Name | Loss = "softmax_cross_entropy",
    *,
    output: activations.Name | Activation | None = None,
) -> tuple[Scalar, Params, list[Array]]:
    """Loss, gradient and deltas of a dense network, by formulas (1) to (4).

    Args:
      params: of models.mlp: {"layers": [{"weight": (in, out), "bias": (out,)}, ...]}; a layer may lack
        its bias.
      x: examples as rows, shape (n, d), n > 0.
      y: targets, as `loss` takes them for predictions of shape (n, k).
      activation: one for all hidden layers, or one per hidden layer, or one per layer with the output's last.
      loss: a name of LOSSES, or a Loss.
      output: the last layer's activation; the identity by default.
    Returns:
      (loss, grads, deltas): the mean loss; its gradient, structure of params; delta^1..delta^L, shapes of
      the z^l.
      Equal to jax.value_and_grad of jnp.mean(loss(model.apply(params, x), y)), model = models.mlp(sizes, activation,
      output=output).
    Raises:
      ValueError: an empty batch; shapes that do not fit; an unknown activation or loss.
    Kinks: as the tables say.
    Numerics: softmax before cross_entropy and sigmoid before binary_cross_entropy use delta^L = p - y (per
      example), what (1) simplifies to, so a probability that underflows does no harm.
    Source: Rumelhart, Hinton, Williams 1986; Goodfellow, Bengio, Courville 2016, section 6.5.
    Example:
      >>> model = models.mlp([2, 3, 1])
      >>> params = model.init(jax.random.key(0))
      >>> loss, grads, deltas = backprop.gradients(
      ...     params, jnp.ones((4, 2)), jnp.zeros((4, 1)), "relu", "half_squared_error"
      ... )
      >>> [delta.shape for delta in deltas]
      [(4, 3), (4, 1)]
    """
    dense = entry("params", params, "layers")
    x = array("x", x)
    x = real("x", x) if jnp.issubdtype(x.dtype, jnp.floating) else real("x", x).astype(dense[0]["weight"].dtype)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"x: expected shape (n, d) with n > 0, got {x.shape}")
    functions = [activations.get(f) for f in per_layer(activation, output, len(dense))]
    loss = losses.get(loss)

    zs, inputs, a = [], [], x  # a^{l-1} and z^l, layer by layer
    for layer, f in zip(dense, functions, strict=True):
        inputs.append(a)
        zs.append(layers.affine(layer, a))
        a = f.fun(zs[-1])
    per_example = loss.fun(a, y)

    delta = output_delta(functions[-1], loss, zs[-1], a, y) / per_example.size  # (1)
    deltas = [delta]
    for l in reversed(range(len(dense) - 1)):
        delta = through(functions[l], zs[l], delta @ dense[l + 1]["weight"].T)  # (2)
        deltas.insert(0, delta)

    grads = []
    for layer, a, delta in zip(dense, inputs, deltas, strict=True):
        weight = jnp.matmul(a.T, delta, out_sharding=sharding_like(layer["weight"], a, delta))  # (3)
        derivative = {"weight": weight, "bias": delta.sum(0)}  # (4)
        grads.append({name: derivative[name] for name in layer})
    return jnp.mean(per_example), {**params, "layers": type(dense)(grads)}, deltas


def through(f: Activation, z: Float[Array, "n k"], a_bar: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Back from a = f(z) to z: a_bar * f'(z), or J^T a_bar for each row where f mixes a row's entries.

    Example:
      >>> backprop.through(activations.get("relu"), jnp.array([[1.0, -1.0]]), jnp.array([[2.0, 2.0]])).tolist()
      [[2.0, 0.0]]
    """
    if f.elementwise:
        return a_bar * f.prime(z)
    return jnp.einsum("nij,ni->nj", f.prime(z), a_bar)


def output_delta(f: Activation, loss: Loss, z: Array, a: Array, y: Array) -> Float[Array, "n k"]:
    """d(sum of the losses)/dz^L: formula (1), or p - y where it simplifies to that.

    softmax, cross_entropy:  sum_i (-y_i/p_i) p_i (1(i = j) - p_j) = p_j sum_i y_i - y_j.
    sigmoid, binary_cross_entropy:  (p - y) / (p (1 - p)) * p (1 - p) = p - y.

    Example:
      >>> z = jnp.array([[0.0, 0.0]])
      >>> backprop.output_delta(
      ...     activations.get("softmax"),
      ...     losses.get("cross_entropy"),
      ...     z,
      ...     activations.softmax(z),
      ...     jnp.array([[1.0, 0.0]]),
      ... ).tolist()
      [[-0.5, 0.5]]
    """
    if f.fun is softmax and loss.fun is losses.cross_entropy:
        y = real("y", y).astype(a.dtype)
        return a * y.sum(-1, keepdims=True) - y
    if f.fun is sigmoid and loss.fun is losses.binary_cross_entropy:
        return a - real("y", y).astype(a.dtype)
    return through(f, z, loss.prime(a, y))
