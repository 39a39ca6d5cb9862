"""A function of one number, evaluated with as many digits as it takes: its program is read by JAX, not its rounding."""

import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.calculus.ball import Arithmetic, Ball, is_rounded, moved
from functional_dl.calculus.ball_array_rules import RULES
from functional_dl.calculus.ball_rules import elementwise
from functional_dl.calculus.intervals import Enclosure, is_site
from functional_dl.calculus.numpy_functions import readable
from functional_dl.jaxprs import Interpreter, open_jaxpr, primitive_names, staged
from functional_dl.precision import double

MOST_ROUNDS = 2000  # of a loop
MOST_BITS = 40000


class NotReadable(Exception):
    """The function is no program that numbers of many digits can go through."""


class TooLate(Exception):
    """The time that there was for an evaluation is over."""


def primitives(f: Callable[..., Any], *args: Any) -> set[str]:
    """The names of the primitives that f applies; none where JAX cannot trace f."""
    try:
        return primitive_names(staged(lambda *xs: f(*xs), *args)[0])
    except Exception:  # whatever a function of Python or NumPy says to a tracer
        return set()


class Program:
    """f, whose value is one real number, as a program.

    Raises:
      NotReadable: JAX cannot trace f, or it applies a primitive that is not in the table.
    """

    jaxpr: Any

    def __init__(self, f: Callable[..., Any]) -> None:
        if importlib.util.find_spec("mpmath") is None:
            raise NotReadable("mpmath is not installed")
        with double():
            place = jax.ShapeDtypeStruct((), jnp.float64)
            read = readable(f, place)
            if read is None:
                raise NotReadable("JAX cannot trace it")
            self.jaxpr, _ = staged(lambda x: read(x), place)
        outs = open_jaxpr(self.jaxpr)[0].outvars
        if len(outs) != 1 or outs[0].aval.shape != () or outs[0].aval.dtype.kind != "f":
            raise NotReadable("its value is not one real number")
        self.rounded = False  # whether it holds constants that stand for numbers near them; known once evaluated
        self.sites = 0  # comparisons and steps of numbers that depend on x, where it may jump; known once evaluated

    def enclosure(self) -> Enclosure | None:
        """What the function is between on intervals; None where that cannot be told."""
        return Enclosure.of(self.jaxpr)

    def at(
        self,
        x: Callable[..., Any],
        bits: int,
        seed: int = 0,
        flip: tuple[int, int] | None = None,
        deadline: float = math.inf,
    ) -> tuple[Any, ...]:
        """(value, bound of its rounding error), mpmath numbers; NaN where f is not defined.

        Args:
          x: x(mp) -> the point, exact at this precision.
          bits: the precision.
          seed: other than 0: with constants that are rounded moved within their rounding.
          flip: (site, by): with that comparison negated, or that step off by so much.
          deadline: on time.monotonic's clock.
        Raises:
          TooLate: the deadline has passed.
        """
        arithmetic = Arithmetic(bits)
        start = np.array(Ball(arithmetic, x(arithmetic.mp), arithmetic.mp.zero), object)
        try:
            with double():
                machine = _Digits(self, arithmetic, seed, flip, deadline)
                out = machine.run(self.jaxpr, [start])[0][()]
                self.sites = machine.met
        except (NotImplementedError, TypeError, AttributeError, MemoryError) as error:
            raise NotReadable(str(error)) from error
        return out.v, (arithmetic.inf if arithmetic.ambiguous else out.e)


class _Digits(Interpreter):
    """Floating numbers are object arrays of balls; integers and booleans are NumPy's."""

    most_rounds = MOST_ROUNDS

    def __init__(
        self, program: Program, arithmetic: Arithmetic, seed: int, flip: tuple[int, int] | None, deadline: float
    ) -> None:
        self.program, self.arithmetic, self.seed, self.flip = program, arithmetic, seed, flip
        self.deadline, self.met = deadline, 0

    def constant(self, value: Any, aval: Any = None) -> np.ndarray:
        """A number of the program's, as exact as it is written."""
        x = value if isinstance(value, np.ndarray) else np.asarray(value)
        if x.dtype == object or x.dtype.kind in "biu":
            return x
        if x.dtype.kind != "f":
            raise NotImplementedError(f"constants of dtype {x.dtype}")
        out = np.empty(x.shape, object)
        for index in np.ndindex(x.shape):
            value = float(x[index])
            self.program.rounded |= is_rounded(value)
            number = self.arithmetic.exact(value)
            number.v += self.arithmetic.mp.mpf(moved(value, self.seed))
            out[index] = number
        return out

    def apply(self, eqn: Any, operands: list[np.ndarray]) -> list[np.ndarray]:
        primitive, params = eqn.primitive, eqn.params
        if not any(x.dtype == object for x in operands):
            if primitive.name == "convert_element_type" and np.dtype(params["new_dtype"]).kind == "f":
                return [self.constant(operands[0].astype(np.float64))]
            return [self.constant(y) for y in super().apply(eqn, operands)]
        rule = RULES.get(primitive.name)
        if rule is None:
            raise NotImplementedError(f"no rule of many digits for '{primitive}'")
        if time.monotonic() > self.deadline:
            raise TooLate
        out = rule(self.arithmetic, primitive, operands, params)
        return self._site(out) if is_site(primitive.name, params) else out

    def _site(self, out: list[np.ndarray]) -> list[np.ndarray]:
        """A comparison or step, counted, and flipped where that is asked for."""
        self.met += 1
        if self.flip is None or self.flip[0] != self.met - 1:
            return out
        y = out[0]
        if y.dtype == bool:
            return [~y]
        by = self.flip[1]
        return [y + by if y.dtype != object else elementwise(lambda v: v + self.arithmetic.exact(by), y)]

    def row(self, eqn: Any, x: Any, t: Any) -> Any:
        return np.asarray(x[t], x.dtype)  # an entry of an object array is no array
