"""A function of one number, evaluated with as many digits as it takes: its program is read by JAX, not its rounding."""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.calculus.wide import Arithmetic, Wide, is_rounded, moved
from functional_dl.calculus.wide_array_rules import RULES
from functional_dl.reverse.trace import open_jaxpr, primitive_names, scan_sizes, staged, walk

MOST_ROUNDS = 2000  # of a loop
MOST_BITS = 40000


class NotReadable(Exception):
    """The function is no program that numbers of many digits can go through."""


def primitives(f: Callable, *args) -> set[str]:
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

    def __init__(self, f: Callable):
        if importlib.util.find_spec("mpmath") is None:
            raise NotReadable("mpmath is not installed")
        try:
            with jax.enable_x64(True):
                self.jaxpr, _ = staged(lambda x: f(x), jax.ShapeDtypeStruct((), jnp.float64))
        except Exception as error:  # whatever a function of Python or NumPy says to a tracer
            raise NotReadable(str(error)) from error
        outs = open_jaxpr(self.jaxpr)[0].outvars
        if len(outs) != 1 or outs[0].aval.shape != () or outs[0].aval.dtype.kind != "f":
            raise NotReadable("its value is not one real number")
        self.rounded = False  # whether it holds constants that stand for numbers near them; known once evaluated

    def at(self, x: Callable, bits: int, seed: int = 0) -> tuple:
        """(value, bound of its rounding error), mpmath numbers; NaN where f is not defined.

        Args:
          x: x(mp) -> the point, exact at this precision.
          bits: the precision.
          seed: other than 0: with constants that are rounded moved within their rounding.
        """
        arithmetic = Arithmetic(bits)
        start = np.array(Wide(arithmetic, x(arithmetic.mp), arithmetic.mp.zero), object)
        interpreter = _Interpreter(self, arithmetic, seed)
        try:
            with jax.enable_x64(True):
                out = interpreter.wide(walk(self.jaxpr, [start], interpreter.apply)[0])[()]
        except (NotImplementedError, TypeError, AttributeError, MemoryError) as error:
            raise NotReadable(str(error)) from error
        return out.v, (arithmetic.inf if arithmetic.ambiguous else out.e)


class _Interpreter:
    def __init__(self, program: Program, arithmetic: Arithmetic, seed: int):
        self.program, self.arithmetic, self.seed = program, arithmetic, seed

    def wide(self, x):
        """x as an object array of Wide numbers, if it holds floating numbers; integers and booleans as they are."""
        x = x if isinstance(x, np.ndarray) else np.asarray(x)
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

    def apply(self, primitive, operands, params):
        operands = [self.wide(x) for x in operands]
        loop = {"cond": self.cond, "scan": self.scan, "while": self.loop}.get(primitive.name)
        if loop is not None:
            return loop(operands, params)
        if not any(x.dtype == object for x in operands):
            if primitive.name == "convert_element_type" and np.dtype(params["new_dtype"]).kind == "f":
                return [self.wide(operands[0].astype(np.float64))]
            outs = primitive.bind(*operands, **params)
            return [np.asarray(y) for y in (outs if primitive.multiple_results else [outs])]
        rule = RULES.get(primitive.name)
        if rule is None:
            raise NotImplementedError(f"no rule of many digits for '{primitive}'")
        return rule(self.arithmetic, primitive, operands, params)

    def cond(self, operands, params):
        index, *rest = operands
        branches = params["branches"]
        return walk(branches[int(np.clip(int(index), 0, len(branches) - 1))], rest, self.apply)

    def scan(self, operands, params):
        consts, carry = scan_sizes(params, operands)
        if params["length"] > MOST_ROUNDS:
            raise NotImplementedError(f"a loop of more than {MOST_ROUNDS} rounds")
        fixed, state, xs = operands[:consts], operands[consts : consts + carry], operands[consts + carry :]
        rounds = range(params["length"])
        stacked = []
        for i in reversed(rounds) if params["reverse"] else rounds:
            here = [np.asarray(x[i]) if x.dtype != object else _row(x, i) for x in xs]
            outs = [self.wide(y) for y in walk(params["jaxpr"], [*fixed, *state, *here], self.apply)]
            state = outs[:carry]
            stacked.append(outs[carry:])
        if params["reverse"]:
            stacked.reverse()
        return [*state, *(np.stack(ys) for ys in zip(*stacked))]

    def loop(self, operands, params):
        before, inside = params["cond_nconsts"], params["body_nconsts"]
        test, body, state = operands[:before], operands[before : before + inside], operands[before + inside :]
        for _ in range(MOST_ROUNDS):
            if not bool(np.asarray(walk(params["cond_jaxpr"], [*test, *state], self.apply)[0])):
                return state
            state = [self.wide(y) for y in walk(params["body_jaxpr"], [*body, *state], self.apply)]
        raise NotImplementedError(f"a loop of more than {MOST_ROUNDS} rounds")


def _row(x, i):
    out = np.empty(x.shape[1:], object)
    out[...] = x[i]
    return out
