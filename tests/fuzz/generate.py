"""Random programs, as hypothesis strategies."""

import functools
import random
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

from tests.fuzz.operations import MOST, OPERATIONS, POLICIES, SHAPES, a_real, inexact
from tests.fuzz.program import Program, Step, Type

FAMILIES = {
    "elementwise": 12,
    "binary": 12,
    "special": 2,
    "casts": 2,
    "integers": 6,
    "piecewise": 2,
    "complex": 8,
    "reductions": 7,
    "cumulative": 4,
    "sorting": 3,
    "layout": 10,
    "indexing": 7,
    "scattering": 6,
    "products": 8,
    "windows": 2,
    "linear algebra": 2,
    "fft": 3,
    "foreign": 8,
}
CHEAP = ("elementwise", "binary", "casts", "piecewise", "complex", "layout")  # what the table of costs says of
STRUCTURED = {
    "cond": 3,
    "switch": 2,
    "scan": 5,
    "checkpointed_scan": 2,
    "counted_scan": 2,
    "fori_loop": 2,
    "while_loop": 3,
    "map": 1,
    "jit": 2,
    "checkpoint": 3,
    "checkpoint_bytes": 3,
    "custom_jvp": 1,
    "custom_vjp": 1,
    "vmap": 2,
    "jvp": 1,
    "vjp": 1,
}
DTYPES = ["float64"] * 12 + ["float32"] * 2 + ["complex128"] * 2
NESTING = [0] * 9 + [1] * 6 + [2] * 3 + [3] * 2
SQUASHING = ["sin", "cos", "tanh", "erf", "atan", "logistic", "over_square"]
COMPLEX_SQUASHING = ["complex_sin", "complex_tanh", "complex_exp"]
BACKWARD_ONLY = {"custom_vjp", "checkpointed_scan"}  # JAX's forward mode refuses them
KEPT = 4.0  # the size that a loop's state is kept to


class Value(NamedTuple):
    """A value that further steps may use: `size` bounds its entries."""

    name: str
    type: Type
    size: float


@functools.cache
def first_operand_of(kind: Type, cheap: bool = False) -> list[str]:
    """The names of the operations that take a value of this type first, as often as their weights say."""
    names = []
    for family, weight in FAMILIES.items():
        if cheap and family not in CHEAP:
            continue
        fitting = [n for n, op in OPERATIONS.items() if op.family == family and op.takes and op.takes[0](kind)]
        total = sum(OPERATIONS[n].weight for n in fitting)
        for name in fitting:
            names += [name] * max(1, round(20 * weight * OPERATIONS[name].weight / total))
    return names


@functools.cache
def result_types(op: str, types: tuple[Type, ...], params: tuple) -> tuple[Type, ...]:
    args = [jax.ShapeDtypeStruct(t.shape, jnp.dtype(t.dtype)) for t in types]
    outs = jax.eval_shape(lambda *xs: OPERATIONS[op].fun(*xs, **dict(params)), *args)
    return tuple(Type(y.shape, y.dtype.name) for y in jax.tree.leaves(outs))


class Builder:
    """Grows one program, or the body of a step of another: `values` are those in sight."""

    def __init__(self, number: Callable[[int], int], inputs: list[Type], outer: "Builder | None" = None, closed=False):
        self.number = number  # number(most): an integer from 0 to most
        self.names = outer.names if outer else iter(f"v{i}" for i in range(10**6))
        self.recent = outer.recent if outer else self.choose([1, 1, 3, 20])
        self.barred: set[str] = set(outer.barred) if outer else set()
        self.inputs = {next(self.names): kind for kind in inputs}
        captured = outer.values[-4:] if outer and not closed else []
        self.values = captured + [Value(name, kind, KEPT if outer else 2.0) for name, kind in self.inputs.items()]
        self.own = len(captured)
        self.steps: list[Step] = []
        self.cheap = False  # of families whose results are computed again rather than kept

    # --- choosing ---

    def choose(self, options):
        return options[self.number(len(options) - 1)]

    def value(self, fits: Callable[[Type], bool]) -> Value | None:
        """A value of a fitting type: often the latest, so that chains grow long."""
        fitting = [v for v in self.values if fits(v.type)]
        if not fitting:
            return None
        i = self.number((1 + self.recent) * len(fitting) - 1)
        return fitting[i] if i < len(fitting) else fitting[-1]

    # --- growing ---

    def add(self, op: str, operands: list[Value], params=None, bodies=(), types=None, size=None) -> list[Value]:
        params = params or {}
        kinds = tuple(v.type for v in operands)
        types = types or result_types(op, kinds, tuple(params.items()))
        size = OPERATIONS[op].bound([v.size for v in operands], kinds) if size is None else size
        outs = [Value(next(self.names), kind, size) for kind in types]
        self.steps.append(Step(tuple(v.name for v in outs), op, tuple(v.name for v in operands), params, tuple(bodies)))
        self.values += outs
        if size > MOST:
            return [self.squashed(v) if inexact(v.type) else v for v in outs]
        return outs

    def squashed(self, v: Value) -> Value:
        return self.add(self.choose(SQUASHING if a_real(v.type) else COMPLEX_SQUASHING), [v])[0]

    def simple(self) -> None:
        """One step of a random operation without bodies."""
        for _ in range(8):
            first = self.value(inexact if self.number(11) else lambda t: True)
            op = self.choose(first_operand_of(first.type, self.cheap and inexact(first.type)))
            operands = [first]
            for takes in OPERATIONS[op].takes[1:]:
                other = self.value(lambda t: takes(*[v.type for v in operands], t))
                if other is None:
                    break
                operands.append(other)
            if len(operands) < len(OPERATIONS[op].takes):
                continue
            kinds = tuple(v.type for v in operands)
            choices = OPERATIONS[op].choices(*kinds)
            if not choices:
                continue
            params = self.choose(choices)
            if all(t.shape in SHAPES for t in result_types(op, kinds, tuple(params.items()))):
                self.add(op, operands, params)
                return
        self.squashed(self.real())

    def real(self) -> Value:
        """A real value; one is made where there is none."""
        found = self.value(a_real)
        if found is not None:
            return found
        return self.add("real", [self.value(lambda t: t.dtype == "complex128")])[0]

    def integer(self) -> Value:
        return self.value(lambda t: t.dtype == "int32") or self.add("to_integer", [self.real()])[0]

    def grow(self, steps: int, nest: int) -> None:
        """So many steps, one of them with bodies nested so deep, more of them perhaps."""
        where = self.number(steps - 1) if nest else None
        for i in range(steps):
            if i == where:
                self.structured(nest)
            elif nest and self.number(9) == 0:
                self.structured(1)
            else:
                self.simple()

    def body(self, inputs: list[Type], nest: int, closed=False, barred=()) -> "Builder":
        inner = Builder(self.number, inputs, self, closed)
        inner.barred |= set(barred)
        if self.number(2) == 0:  # a chain of cheap steps, along which residuals are dropped
            inner.cheap = True
            for _ in range(3 + self.number(5)):
                inner.simple()
        inner.cheap = False
        inner.grow(1 + self.number(3), nest - 1)
        return inner

    def fit(self, kind: Type, size: float = KEPT) -> Value:
        """A value of this type, no larger: the latest of one's own, or a parameter times a function of the latest."""
        own = [v for v in self.values[self.own + len(self.inputs) :] if v.type == kind]
        if own:
            found = own[-1]
        elif a_real(kind):
            parameter = next(v for v in self.values[self.own :] if v.type == kind)
            found = self.add("like", [parameter, self.real()])[0]
        else:
            found = self.add("complex_sin", [next(v for v in self.values[self.own :] if v.type == kind)])[0]
        return found if found.size <= size else self.squashed(found)

    def row(self, length: int) -> Value:
        """A value that may be stacked so many times."""
        found = [v for v in self.values[self.own :] if inexact(v.type) and (length, *v.type.shape) in SHAPES]
        if found:
            return found[-1]
        x = self.real()
        return self.add("sum", [x], {"axes": tuple(range(len(x.type.shape)))})[0]

    def closed(self, *outputs: Value) -> Program:
        return Program(self.inputs, tuple(self.steps), tuple(v.name for v in outputs))

    # --- steps with bodies ---

    def structured(self, nest: int) -> None:
        op = self.choose(
            [name for name, weight in STRUCTURED.items() if name not in self.barred for _ in range(weight)]
        )
        getattr(self, f"_{op}")(max(nest, 1))

    def _operands(self) -> list[Value]:
        return [self.value(inexact) for _ in range(1 + self.number(1))]

    def _branches(self, op, count, chooser, nest):
        operands = self._operands()
        kinds = [v.type for v in operands]
        bodies = [self.body(kinds, nest if i == 0 else 1) for i in range(count)]
        programs = [b.closed(*[b.fit(kind) for kind in kinds]) for b in bodies]
        self.add(op, [chooser, *operands], {}, programs, kinds, KEPT)

    def _cond(self, nest):
        self._branches("cond", 2, self.real(), nest)

    def _switch(self, nest):
        self._branches("switch", 3, self.integer(), nest)

    def _scan(self, nest):
        init = self.value(inexact)
        xs = self.value(lambda t: inexact(t) and t.shape and t.shape[1:] in SHAPES) if self.number(3) else None
        length = xs.type.shape[0] if xs else 3
        kinds = [init.type] + ([Type(xs.type.shape[1:], xs.type.dtype)] if xs else [])
        b = self.body(kinds, nest)
        y = b.row(length)
        state = b.fit(init.type)
        params = {"reverse": bool(self.number(1)), "unroll": 1 + self.number(3) // 3}
        types = [init.type, Type((length, *y.type.shape), y.type.dtype)]
        self.add("scan", [init] + ([xs] if xs else []), params, [b.closed(state, y)], types, max(KEPT, y.size))

    def _checkpointed_scan(self, nest):
        init, xs = self.value(inexact), self.value(lambda t: inexact(t) and t.shape and t.shape[1:] in SHAPES)
        if xs is None:
            return self._scan(nest)
        length = xs.type.shape[0]
        b = self.body([init.type, Type(xs.type.shape[1:], xs.type.dtype)], nest)
        y = b.row(length)
        state = b.fit(init.type)
        types = [init.type, Type((length, *y.type.shape), y.type.dtype)]
        params = {"slots": 1 + self.number(2)}
        self.add("checkpointed_scan", [init, xs], params, [b.closed(state, y)], types, max(KEPT, y.size))

    def _counted_scan(self, nest):
        init, other = self.real(), self.value(inexact)
        b = self.body([init.type, other.type], nest)
        outs = b.fit(init.type), b.fit(other.type)
        self.add(
            "counted_scan",
            [init, other],
            {"length": self.number(4)},
            [b.closed(*outs)],
            [init.type, other.type],
            KEPT + max(init.size, other.size),
        )

    def _fori_loop(self, nest):
        x = self.real()
        b = self.body([x.type], nest)
        self.add("fori_loop", [x], {"steps": 1 + self.number(3)}, [b.closed(b.fit(x.type))], [x.type], KEPT)

    def _while_loop(self, nest):
        x = self.real()
        b = self.body([x.type], nest)
        params = {"limit": self.choose([0.5, 2.0, 100.0]), "most": 1 + self.number(5)}
        self.add("while_loop", [x], params, [b.closed(b.fit(x.type))], [x.type], max(KEPT, x.size))

    def _over_rows(self, op, nest):
        x = self.value(lambda t: inexact(t) and t.shape and t.shape[1:] in SHAPES)
        if x is None:
            return self._jit(nest)
        length = x.type.shape[0]
        b = self.body([Type(x.type.shape[1:], x.type.dtype)], nest)
        y = b.row(length)
        self.add(op, [x], {}, [b.closed(y)], [Type((length, *y.type.shape), y.type.dtype)], y.size)

    def _map(self, nest):
        self._over_rows("map", nest)

    def _vmap(self, nest):
        self._over_rows("vmap", nest)

    def _call(self, op, nest, params):
        operands = self._operands()
        b = self.body([v.type for v in operands], nest)
        outs = [b.values[-1]] if b.number(1) else b.values[-2:]
        self.add(op, operands, params, [b.closed(*outs)], [v.type for v in outs], max(v.size for v in outs))

    def _jit(self, nest):
        self._call("jit", nest, {})

    def _checkpoint(self, nest):
        self._call("checkpoint", nest, {"policy": self.choose(list(POLICIES))})

    def _checkpoint_bytes(self, nest):
        params = {
            "bytes": self.choose([0, 24, 100, 300, 10**6]),
            "policy": self.choose(["none", "none", "none", "dots"]),
        }
        self._call("checkpoint_bytes", nest, params)

    def _custom(self, op, nest, barred=()):
        x = self.value(inexact)
        b = self.body([x.type], nest, closed=True, barred=barred)
        y = b.fit(x.type)
        self.add(op, [x], {}, [b.closed(y)], [x.type], y.size)

    def _custom_jvp(self, nest):
        self._custom("custom_jvp", nest, BACKWARD_ONLY)

    def _custom_vjp(self, nest):
        self._custom("custom_vjp", nest)

    def _inner(self, op, nest, barred=()):
        x = self.real()
        v = self.value(lambda t: t == x.type)
        b = self.body([x.type], nest, barred=barred)
        y = b.fit(x.type)
        self.squashed(self.add(op, [x, v], {}, [b.closed(y)], [x.type], MOST)[0])

    def _jvp(self, nest):
        self._inner("jvp", nest, BACKWARD_ONLY)

    def _vjp(self, nest):
        self._inner("vjp", nest)


def build(number: Callable[[int], int], most: int = 30) -> Program:
    """A program of up to `most` drawn steps; the helpers that they need come on top."""

    def choose(options):
        return options[number(len(options) - 1)]

    inputs = [Type(choose((*SHAPES, (3, 3), (3, 3))), choose(DTYPES)) for _ in range(1 + number(2))]
    if number(9) == 0:
        inputs.append(Type(choose(SHAPES[:3]), "int32"))
    b = Builder(number, inputs)
    b.grow(1 + number(most - 1), choose(NESTING))
    made = b.values[len(inputs) :]
    outputs = [made[-1]] + [choose(made) for _ in range(number(2))]
    if not inexact(outputs[0].type):
        outputs.append(b.add("sin", [b.real()])[0])
    return b.closed(*outputs)


@st.composite
def programs(draw, most: int = 30) -> Program:
    """As hypothesis draws them: small and odd ones first."""
    return build(lambda n: draw(st.integers(0, n)), most)


def program_of(seed: int, most: int = 30) -> Program:
    """As chance draws them: evenly."""
    rng = random.Random(seed)
    return build(lambda n: int(rng.random() * (n + 1)), most)
