"""A case of the corpus: a function, a backward pass written by hand, and what is wrong with it.

An operation is written once, with a knob: `make(None)` is right, `make(fault)` has that fault.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDE = ("float64", "float32")
FLOATS = ("float64", "float32", "bfloat16", "float16")


class Draw:
    """Random arrays of one dtype."""

    def __init__(self, rng: np.random.Generator, dtype: str):
        self.rng, self.dtype = rng, dtype

    def cast(self, x):
        return jnp.asarray(np.asarray(x), self.dtype)

    def normal(self, *shape, scale=1.0, shift=0.0):
        return self.cast(shift + scale * self.rng.normal(size=shape))

    def uniform(self, low, high, *shape):
        return self.cast(self.rng.uniform(low, high, shape))

    def complex(self, *shape):
        kind = {"float64": "complex128", "float32": "complex64"}[self.dtype]
        return jnp.asarray(self.rng.normal(size=shape) + 1j * self.rng.normal(size=shape), kind)

    def integers(self, high, *shape):
        return jnp.asarray(self.rng.integers(0, high, shape), jnp.int32)

    def pick(self, values, *shape):
        return self.cast(self.rng.choice(values, shape))


@dataclass(frozen=True)
class Case:
    """One backward pass.

    Fields:
      name: family.operation.fault, or family.operation.right[.variant].
      cause: the first label; "" where the pass is right.
      wrong: path of the argument -> its cause; the path "" means none alone.
      also: other labels that a reviewer may defend.
      make: make(fault) -> (fun, fun_vjp).
      make_primals: make_primals(rng, dtype) -> primals.
      dtypes: for which it is meant.
      note: why the label is this one, where it is open to debate.
    """

    name: str
    cause: str
    wrong: Mapping[str, str]
    make: Callable
    make_primals: Callable
    fault: str | None = None
    dtypes: tuple[str, ...] = FLOATS
    also: tuple[str, ...] = ()
    note: str = ""
    variant: str = ""

    def built(self):
        """(fun, fun_vjp)"""
        return self.make(self.fault)

    def primals(self, dtype: str, seed: int = 0):
        return self.make_primals(np.random.default_rng([seed, zlib.crc32(self.name.encode())]), dtype)


@dataclass(frozen=True)
class Fault:
    """What a knob position is called: the cause, and the positions or paths of the arguments it makes wrong."""

    cause: str
    arguments: Any = 0
    also: tuple[str, ...] = ()
    dtypes: tuple[str, ...] | None = None
    note: str = ""
    primals: Callable | None = None  # other data than the operation's, where the fault shows

    def wrong(self) -> dict[str, str]:
        if isinstance(self.arguments, dict):
            return {_path(a): c for a, c in self.arguments.items()}
        given = self.arguments if isinstance(self.arguments, tuple) else (self.arguments,)
        return {_path(a): self.cause for a in given}


def _path(argument) -> str:
    return f"args[{argument}]" if isinstance(argument, int) else argument


@dataclass
class Corpus:
    """All cases, by name."""

    cases: dict[str, Case] = field(default_factory=dict)

    def add(self, case: Case) -> None:
        if case.name in self.cases:
            raise ValueError(f"two cases of the name {case.name}")
        self.cases[case.name] = case

    @property
    def wrong(self) -> list[Case]:
        return [c for c in self.cases.values() if c.cause]

    @property
    def right(self) -> list[Case]:
        return [c for c in self.cases.values() if not c.cause]


CORPUS = Corpus()


def operation(primals, *, dtypes=FLOATS, scales=(1e-6, 1e4), variants=None, **faults: Fault):
    """Enters an operation: its right pass with plain and scaled data and with each variant's, and each fault.

    Args:
      primals: primals(draw) -> tuple of arguments.
      dtypes: for which the operation exists.
      scales: factors of the first argument in further right cases.
      variants: name -> primals function, of further right cases.
      **faults: knob position -> Fault.
    """

    def register(make):
        base = f"{make.__module__.rsplit('.', 1)[-1]}.{make.__name__}"

        def drawn(function, factor=1.0):
            def make_primals(rng, dtype):
                first, *rest = function(Draw(rng, dtype))
                if factor != 1.0:
                    first = jax.tree.map(lambda x: x * jnp.asarray(factor, x.dtype), first)
                return (first, *rest)

            return make_primals

        right = Case(f"{base}.right", "", {}, make, drawn(primals), dtypes=dtypes)
        CORPUS.add(right)
        for factor in scales:
            kinds = tuple(d for d in dtypes if d != "float16")
            name = f"{base}.right.{factor:g}"
            CORPUS.add(replace(right, name=name, make_primals=drawn(primals, factor), variant=f"{factor:g}",
                               dtypes=kinds))  # fmt: skip
        for name, function in (variants or {}).items():
            CORPUS.add(replace(right, name=f"{base}.right.{name}", make_primals=drawn(function), variant=name))
        for name, fault in faults.items():
            CORPUS.add(
                Case(
                    f"{base}.{name}", fault.cause, fault.wrong(), make, drawn(fault.primals or primals), name,
                    fault.dtypes or dtypes, fault.also, fault.note,
                )
            )  # fmt: skip
        return make

    return register
