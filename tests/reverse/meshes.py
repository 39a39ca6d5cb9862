"""A probe on a mesh with Explicit axes: where its arguments lie, what its cotangents are there, and what JAX's are.

Types carry shardings there, so that most of what may go wrong is seen when a program is traced.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def types_of(fun, args) -> list:
    """The types of fun(args), which is traced alone."""
    return list(jax.make_jaxpr(lambda *args: fun(args))(*args).out_avals)


@dataclass(frozen=True)
class Question:
    """A probe, and how its arguments lie.  Asked with the mesh as the current one."""

    case: Any
    lying: Lying

    def __str__(self):
        return f"{self.case}, {self.lying}"

    @functools.cached_property
    def args(self) -> list:
        mesh = mesh_of(self.lying.devices)
        return [placed(x, self.lying, mesh) for x in self.case.point["args"]]

    def types(self, differentiate) -> list:
        """The types of the cotangents."""
        fun = program(self.case.probe, self.lying, differentiate is jax.vjp)
        return types_of(lambda args: pulled(differentiate, fun, *args)[1], self.args)

    @functools.cached_property
    def answer(self):
        """The types of JAX's cotangents, or what it says instead."""
        try:
            jax.eval_shape(program(self.case.probe, self.lying), *self.args)
            return self.types(jax.vjp)
        except Exception as error:
            return error

    @property
    def refusal(self) -> str:
        return "" if isinstance(self.answer, list) else f"{type(self.answer).__name__}: {str(self.answer)[:60]}"

    @property
    def expected(self) -> list:
        assert isinstance(self.answer, list)
        return self.answer

    @property
    def is_not_compiled(self) -> bool:
        """Whether JAX's compiler passes refuse the value of the program, which JAX traced."""
        try:
            jax.jit(program(self.case.probe, self.lying)).lower(*self.args)
        except Exception:
            return True
        return False

    def numbers(self):
        """Values and cotangents, ours and JAX's, from one compiled program."""

        @jax.jit
        def both(*args):
            return [
                pulled(d, program(self.case.probe, self.lying, d is jax.vjp), *args) for d in (reverse.vjp, jax.vjp)
            ]

        return both(*self.args)
