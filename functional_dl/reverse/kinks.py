"""The conventions of reverse mode where a function has no derivative: ours, JAX's, PyTorch's.

KINKS lists, for each function of one number with a kink, the point, its one-sided derivatives (their interval is
Clarke's subdifferential, every element of which is a generalised derivative), and what is taken there.  Ours equals
JAX's, for a drop-in must; where JAX's choice is doubtful, `doubt` says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.kinks import Kink


@dataclass(frozen=True)
class Convention:
    """What stands in for a derivative at a kink.

    Fields:
      name: the function, as a user writes it.
      fun: the function of one number.
      kink: the point, the one-sided derivatives, and the values taken here, by JAX and by PyTorch.
      torch: the same function in PyTorch, as an expression in x; empty where PyTorch has none.
      doubt: why JAX's choice is doubtful; empty where it is not.
    """

    name: str
    fun: Callable[..., Any]
    kink: Kink
    torch: str = ""
    doubt: str = ""


def _pair(entry):
    """The entry (x, 0) as a vector: x is compared with a constant."""
    return lambda x: entry(jnp.stack([x, jnp.zeros_like(x)]))


def _kink(at, left, right, ours, pytorch=None):
    return Kink(at, left=left, right=right, value=ours, jax=ours, pytorch=pytorch)


KINKS = (
    Convention(
        "abs(x)",
        lambda x: lax.abs(x),
        _kink(0.0, -1.0, 1.0, 1.0, 0.0),
        "x.abs()",
        "1 is an end of the interval: |x| and |-x| then have the same slope at 0 and sums of absolute values "
        "are not stationary at their minimum; 0, as in PyTorch, would be.",
    ),
    Convention(
        "maximum(x, 0)",
        lambda x: jnp.maximum(x, 0.0),
        _kink(0.0, 0.0, 1.0, 0.5, 0.5),
        "torch.maximum(x, 0 * x.detach())",
    ),
    Convention(
        "minimum(x, 0)",
        lambda x: jnp.minimum(x, 0.0),
        _kink(0.0, 1.0, 0.0, 0.5, 0.5),
        "torch.minimum(x, 0 * x.detach())",
    ),
    Convention(
        "clip(x, 0, 1), lower",
        lambda x: jnp.clip(x, 0.0, 1.0),
        _kink(0.0, 0.0, 1.0, 0.5, 1.0),
        "x.clamp(0, 1)",
        "jnp.clip is a maximum and a minimum and takes 1/2, lax.clamp takes 0: two answers to one question.",
    ),
    Convention(
        "clip(x, 0, 1), upper", lambda x: jnp.clip(x, 0.0, 1.0), _kink(1.0, 1.0, 0.0, 0.5, 1.0), "x.clamp(0, 1)"
    ),
    Convention(
        "lax.clamp(0, x, 1), lower",
        lambda x: lax.clamp(jnp.zeros_like(x), x, jnp.ones_like(x)),
        _kink(0.0, 0.0, 1.0, 0.0, 1.0),
        "x.clamp(0, 1)",
        "A value at the bound gets no gradient and cannot leave it.",
    ),
    Convention(
        "lax.clamp(0, x, 1), upper",
        lambda x: lax.clamp(jnp.zeros_like(x), x, jnp.ones_like(x)),
        _kink(1.0, 1.0, 0.0, 0.0, 1.0),
        "x.clamp(0, 1)",
    ),
    Convention(
        "max([x, 0])", _pair(jnp.max), _kink(0.0, 0.0, 1.0, 0.5, 0.5), "torch.stack([x, 0 * x.detach()]).amax()"
    ),
    Convention(
        "min([x, 0])", _pair(jnp.min), _kink(0.0, 1.0, 0.0, 0.5, 0.5), "torch.stack([x, 0 * x.detach()]).amin()"
    ),
    Convention(
        "sort([x, 0])[0]",
        _pair(lambda v: jnp.sort(v)[0]),
        _kink(0.0, 1.0, 0.0, 1.0, 1.0),
        "torch.stack([x, 0 * x.detach()]).sort(stable=True).values[0]",
        "The first of equal entries gets all, by its position; min of the same numbers shares.",
    ),
    Convention(
        "cummax([0, x])[1]", lambda x: lax.cummax(jnp.stack([jnp.zeros_like(x), x]))[1], _kink(0.0, 0.0, 1.0, 0.5)
    ),
    Convention("relu(x)", jax.nn.relu, _kink(0.0, 0.0, 1.0, 0.0, 0.0), "torch.relu(x)"),
    Convention("relu6(x), upper", jax.nn.relu6, _kink(6.0, 1.0, 0.0, 0.0, 0.0), "torch.nn.functional.relu6(x)"),
    Convention(
        "leaky_relu(x)", jax.nn.leaky_relu, _kink(0.0, 0.01, 1.0, 1.0, 0.01), "torch.nn.functional.leaky_relu(x)"
    ),
    Convention(
        "where(x > 0, x, 0)",
        lambda x: jnp.where(x > 0, x, 0.0),
        _kink(0.0, 0.0, 1.0, 0.0, 0.0),
        "torch.where(x > 0, x, 0.0)",
    ),
    Convention(
        "where(x >= 0, x, 0)",
        lambda x: jnp.where(x >= 0, x, 0.0),
        _kink(0.0, 0.0, 1.0, 1.0, 1.0),
        "torch.where(x >= 0, x, 0.0)",
    ),
    Convention(
        "fmax(x, 0)",
        lambda x: jnp.fmax(x, 0.0),
        _kink(0.0, 0.0, 1.0, 0.0, 1.0),
        "torch.fmax(x, 0 * x.detach())",
        "maximum takes 1/2 at the same point, PyTorch's fmax the whole.",
    ),
    Convention(
        "norm([x, 0], 1)",
        _pair(lambda v: jnp.linalg.norm(v, 1)),
        Kink(0.0, left=-1.0, right=1.0, value=1.0, jax=1.0, pytorch=0.0),
        "torch.stack([x, 0 * x.detach()]).norm(1)",
    ),
    Convention("norm([x, 0], inf)", _pair(lambda v: jnp.linalg.norm(v, jnp.inf)), _kink(0.0, -1.0, 1.0, 0.25)),
    Convention(
        "i0e(x)",
        lambda x: lax.bessel_i0e(x),
        Kink(0.0, left=1.0, right=-1.0, value=-1.0, jax=0.0, pytorch=0.0),
        "torch.special.i0e(x)",
        "With 1 for abs, 0 makes the slope of I_0(x) = e^|x| i0e(x) at 0 a 1; -1 makes it the 0 that it is.",
    ),
    Convention(
        "complex abs(x + 0i)",
        lambda x: jnp.abs(lax.complex(x, jnp.zeros_like(x))),
        _kink(0.0, -1.0, 1.0, 0.0, 0.0),
        "torch.complex(x, 0 * x).abs()",
        "abs of a real 0 has slope 1, of the complex 0 slope 0: the same number, two conventions.",
    ),
)
