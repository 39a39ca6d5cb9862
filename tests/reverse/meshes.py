"""A probe on a mesh with Explicit axes: where its arguments lie, what its cotangents are there, and what JAX's are.

Types carry shardings there, so that most of what may go wrong is seen when a program is traced.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from jax.sharding import NamedSharding, PartitionSpec

from functional_dl import reverse
from tests.reverse import ledger

AXES = ("a", "b", "c")


def mesh_of(devices: int) -> jax.sharding.Mesh:
    """The mesh of one device, or of eight along three axes: an axis of length 2, 4 or 8 can be split over it."""
    sizes = {1: (1, 1, 1), 8: (2, 2, 2)}[devices]
    return jax.make_mesh(sizes, AXES, devices=jax.devices()[:devices])


@dataclass(frozen=True)
class Lying:
    """How a probe's arguments lie on the mesh.

    Fields:
      devices: 1 or 8.
      split: the axes of every argument are split over the mesh as far as their lengths allow, the first one first.
      mapped: the program is mapped over a batch of eight, which is split over the whole mesh.
    """

    devices: int
    split: bool = False
    mapped: bool = False

    def __str__(self):
        words = [f"{self.devices} device" + "s" * (self.devices > 1)]
        return ", ".join(words + ["split"] * self.split + ["mapped"] * self.mapped)


def spec_of(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """As many of the mesh's axes for each axis of an array as divide its length."""
    left, spec = list(AXES), []
    size = 2 if devices == 8 else 1
    for length in shape:
        own = []
        while left and length and length % size == 0 and not (size == 1 and own):
            length //= size
            own.append(left.pop(0))
        spec.append(tuple(own) if len(own) > 1 else own[0] if own else None)
    return PartitionSpec(*spec)


def placed(x, lying: Lying, mesh):
    """The array where it lies."""
    if lying.mapped:
        x = jnp.stack([x] * 8)
        spec = PartitionSpec(AXES)
    else:
        spec = spec_of(x.shape, lying.devices) if lying.split else PartitionSpec()
    return jax.device_put(x, NamedSharding(mesh, spec))


def program(probe: reverse.Probe, lying: Lying, for_jax: bool = False):
    fun = ledger.for_jax(probe.fun) if for_jax else probe.fun
    return jax.vmap(fun) if lying.mapped else fun


def pulled(differentiate, fun, *args):
    """The value, and the cotangents of a cotangent that is made of the value: numbers between 1/2 and 3/2."""
    out, pull = differentiate(fun, *args)

    def one(y):
        if not jnp.issubdtype(y.dtype, jnp.inexact):
            return np.zeros(y.shape, jax.float0)
        return jnp.cos(jax.lax.real(y) if jnp.iscomplexobj(y) else y).astype(y.dtype) / 2 + jnp.ones_like(y)

    return out, [bar for bar in pull(jax.tree.map(one, out)) if bar.dtype != jax.float0]
