"""The one reader of JAX's programs: opening a jaxpr, walking its equations, running it under any meaning of its values.

`interpret` runs a jaxpr's equations in their order; the caller says what is done with each, and what values are.  An
`Interpreter` adds what every meaning shares: calls are entered, loops run step by step, a cond runs the branch that
it takes.  Its subclasses say what a primitive does to numbers of many digits, power series, names of values, arrays.

Differences between versions of JAX in how a program is stored are handled here alone: no other file reads a jaxpr's
list of equations.
"""

import enum
import functools
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Literal, Primitive, jaxpr_as_fun

from functional_dl.aliases import Array
from functional_dl.sharding import equation_context

__all__ = [
    "CALLS",
    "MARKED",
    "PLAIN",
    "HoldsArray",
    "Interpreter",
    "Structure",
    "Unstructured",
    "all_equations",
    "argument_names",
    "bind",
    "bind_params",
    "called",
    "equations",
    "frozen",
    "function_of",
    "held_constants",
    "interpret",
    "needed",
    "open_jaxpr",
    "primitive_named",
    "primitive_names",
    "primitive_of",
    "programs",
    "scan_parts",
    "scan_sizes",
    "scopes_of",
    "solver_of",
    "source_of",
    "staged",
    "structure",
    "taken",
    "traced_function",
    "while_parts",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


# A source line is the user's: frames of this file are passed over, as JAX passes over its own.
source_info_util.register_exclusion(__file__)

# Primitives that call a program, by name -> the parameter that holds it: those that are a call and no more;
PLAIN = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",  # from JAX 0.12 on
}  # fmt: skip
# with those that carry a mark (recompute it, map it by this rule) and whose derivative is the program's;
MARKED = PLAIN | {"remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr", "composite": "jaxpr",
                  "custom_vmap_call": "call", "xla_metadata_call": "jaxpr",
                  "compute_on": "jaxpr"}  # fmt: skip
# with those that have a derivative of their own, which is not read.
CALLS = MARKED | {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


# --- reading ----------------------------------------------------------------------------------------------------------


def open_jaxpr(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants; newer JAX keeps both in one object."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def equations(jaxpr: Any) -> Sequence[Any]:
    """The equations of a jaxpr, closed or open."""
    return open_jaxpr(jaxpr)[0].eqns


def programs(params: Mapping[str, Any]) -> list[Any]:
    """The jaxprs among an equation's parameters, also those that stand in a tuple."""
    values = [v for value in params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    return [value for value in values if hasattr(open_jaxpr(value)[0], "eqns")]


def all_equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr and of those within it."""
    for eqn in equations(jaxpr):
        yield eqn
        for inner in programs(eqn.params):
            yield from all_equations(inner)


def held_constants(params: Mapping[str, Any]) -> list[Any]:
    """The constants of the programs among an equation's parameters, at any depth."""
    found = []
    for program in programs(params):
        found += open_jaxpr(program)[1]
        for eqn in equations(program):
            found += held_constants(eqn.params)
    return found


def primitive_names(jaxpr: Any) -> set[str]:
    """The primitives of a program, at any depth."""
    return {eqn.primitive.name for eqn in all_equations(jaxpr)}


def needed(
    jaxpr: Any, outvars: Sequence[Any] | None = None, stays: Callable[[Any], Any] = lambda eqn: False
) -> list[Any]:
    """The equations that the results (or `outvars` of them) depend on, and those for which `stays` holds."""
    jaxpr, kept = open_jaxpr(jaxpr)[0], []
    live = {atom for atom in (jaxpr.outvars if outvars is None else outvars) if not isinstance(atom, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if stays(eqn) or not live.isdisjoint(eqn.outvars):
            kept.append(eqn)
            live.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
    return kept[::-1]


def called(primitive: Primitive, params: Mapping[str, Any], table: Mapping[str, str] = CALLS) -> Any:
    """The program that a call of the table calls; None for other equations."""
    return params.get(table.get(primitive.name, ""))


def scan_parts(params: Mapping[str, Any], operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """A scan's operands, or what stands for each: constants, carry, and what is scanned over."""
    if "num_consts" in params:
        first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
        return list(operands[:first]), list(operands[first:second]), list(operands[second:])
    consts, carry, xs = params["ft_in"].update(list(operands)).unpack()  # from JAX 0.11 on
    return list(consts), list(carry), list(xs)


def scan_sizes(params: Mapping[str, Any], operands: Sequence[Any]) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many the carry."""
    consts, carry, _ = scan_parts(params, operands)
    return len(consts), len(carry)


def while_parts(params: Mapping[str, Any], operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """A while_loop's operands: constants of the condition, constants of the body, state."""
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    return list(operands[:first]), list(operands[first:second]), list(operands[second:])


def solver_of(params: Mapping[str, Any], operands: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Of a custom_linear_solve the program that solves, and its operands; the others are for derivatives."""
    lengths = params["const_lengths"]
    first = lengths.matvec + lengths.vecmat
    return params["jaxprs"].solve, [*operands[first : first + lengths.solve], *operands[sum(lengths) :]]


def taken(branches: Sequence[Any], index: Any) -> Any:
    """The branch that cond takes: an index outside of them means the nearest."""
    return branches[min(max(int(index), 0), len(branches) - 1)]


def source_of(eqn: Any) -> str:
    """The user's file and line of an equation."""
    place = source_info_util.summarize(eqn.source_info).split(" ")[0]
    parts = place.split(":")
    return ":".join(parts[:2]) if len(parts) > 2 else place


def scopes_of(name_stack: Any) -> tuple[str, ...]:
    """The names of jax.named_scope in an equation's name stack, outermost first.

    A number belongs to the name before it, as layers/0; of a transformation, as vmap(layers/0), its operand is left.
    """
    names: list[str] = []
    for part in re.sub(r"\w+\(|\)", "", str(name_stack)).split("/"):
        if part.isdecimal() and names:
            names[-1] = f"{names[-1]}/{part}"
        elif part:
            names.append(part)
    return tuple(names)


def traced_function(jaxpr: Any) -> tuple[str, str]:
    """Name and file of the Python function that a jaxpr was traced from; ("", "") where it is not known."""
    info = getattr(open_jaxpr(jaxpr)[0], "debug_info", None)
    name, _, place = str(getattr(info, "func_src_info", "") or "").partition(" at ")
    return name.rsplit(".", 1)[-1], place.rsplit(":", 1)[0]


def argument_names(jaxpr: Any) -> list[str]:
    """The names of the arguments of the Python function that a jaxpr was traced from, "" for an unknown one."""
    info = getattr(open_jaxpr(jaxpr)[0], "debug_info", None)
    return [str(name or "") for name in (getattr(info, "arg_names", None) or ())]


# --- comparing --------------------------------------------------------------------------------------------------------


class Unstructured(TypeError):
    """A program or parameter that equals no other: it holds an array, or a function that was made on the way."""


class HoldsArray(Unstructured):
    """An array is part of the program: a cache that keeps the program keeps the array."""


class Structure:
    """What a program computes, whatever the objects that it is made of: equal for programs of the same equations."""

    __slots__ = ("hash", "parts")
    hash: int
    parts: tuple[Any, ...]

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.hash = hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Structure) and self.hash == other.hash and self.parts == other.parts


_structures: WeakKeyDictionary[Any, Structure] = WeakKeyDictionary()


def structure(jaxpr: Any) -> Structure:
    """The structure of a jaxpr: primitives, parameters, types, and which value goes where.

    Of an open jaxpr's constants it holds the types, of a closed one's the numbers.

    Raises:
      Unstructured: an array is part of the program.
    """
    return _structure(jaxpr, rules=True)


def _structure(jaxpr, rules: bool) -> Structure:
    inner, consts = open_jaxpr(jaxpr)
    found = _structures.get(inner) if rules else None
    if found is None:
        found = _structure_of_equations(inner, rules)
        if rules:
            _structures[inner] = found
    return Structure(found, tuple(map(frozen, consts))) if consts else found


def _structure_of_equations(jaxpr, rules: bool) -> Structure:
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    places: dict[Any, int] = {}

    def place(atom):
        return (atom.aval, frozen(atom.val)) if isinstance(atom, Literal) else places[atom]

    def new(variables):
        for variable in variables:
            places[variable] = len(places)
        return tuple(variable.aval for variable in variables)

    parts: list = [len(jaxpr.constvars), new(inputs)]
    context, contexts = None, ()
    for eqn in jaxpr.eqns:
        if eqn.ctx is not context:
            context = eqn.ctx
            names = getattr(type(context), "__slots__", ())
            contexts = tuple(getattr(context, name, None) for name in names if name != "__weakref__")
        params = _frozen_params(eqn, rules)
        parts.append((eqn.primitive, contexts, params, tuple(map(place, eqn.invars)), new(eqn.outvars)))
    parts.append(tuple(map(place, jaxpr.outvars)))
    try:
        return Structure(*parts)
    except TypeError as error:
        raise Unstructured(str(error)) from error


def _program_of_rule(jvp, avals):
    """A user's rule as a program; one that refuses (equinox's nondifferentiable) has none."""
    try:
        return jax.make_jaxpr(jvp.call_wrapped)(*avals, *avals)
    except Exception as error:
        raise Unstructured("a user's rule that cannot be traced") from error


def _frozen_params(eqn, rules: bool) -> tuple[Any, ...]:
    """An equation's parameters.  A user's rule for derivatives, of which JAX makes a new function each time it traces
    one, is replaced by its program; calls of other such functions in that are not differentiated again."""
    params, last = eqn.params, ()
    if eqn.primitive.name == "custom_jvp_call" and not params.get("symbolic_zeros"):
        avals = [atom.aval for atom in eqn.invars]
        if not rules or all(hasattr(a, "dtype") and np.issubdtype(a.dtype, np.inexact) for a in avals):
            _, jvp = bind_params(eqn.primitive, params)["subfuns"]
            last = (_structure(_program_of_rule(jvp, avals), rules=False),) if rules else ()
            params = {name: value for name, value in params.items() if not hasattr(value, "call_wrapped")}
    return (*[(name, _frozen(value, True, rules)) for name, value in params.items()], *last)


def frozen(value: Any, functions: bool = False) -> Any:
    """A parameter as what can be hashed, equal only for parameters that mean the same.

    Args:
      functions: functions that were made on the way, and other objects that equal none but themselves, are taken too.
    Raises:
      Unstructured: for these otherwise, and for arrays.
    """
    return _frozen(value, functions, rules=True)


def _frozen(value, functions: bool, rules: bool) -> Any:
    kind = type(value)
    if kind is str or value is None:
        return value
    if isinstance(value, (float, complex)):
        return kind, repr(value)  # tells 0.0 from -0.0, and nan is nan
    if isinstance(value, (tuple, list)):
        return kind, tuple([_frozen(v, functions, rules) for v in value])
    if isinstance(value, int):
        return kind, value
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        if isinstance(value, jax.Array) or value.dtype.hasobject or value.nbytes > 1024:
            raise HoldsArray(f"an array of shape {value.shape}")
        return kind, value.dtype, value.shape, value.tobytes()
    if isinstance(value, dict):
        return kind, tuple([(k, _frozen(v, functions, rules)) for k, v in value.items()])
    if hasattr(open_jaxpr(value)[0], "eqns"):
        return _structure(value, rules)
    if kind is functools.partial:
        return kind, *[_frozen(part, functions, rules) for part in (value.func, value.args, value.keywords)]
    if not functions and _is_of_the_moment(value):
        raise Unstructured(f"{kind.__name__}, which equals no other")
    return value


def _is_of_the_moment(value: Any) -> bool:
    """Whether an object will not be met again in a later run of the same program: it equals none but itself, and was
    not made once for all by a module."""
    function = getattr(value, "__wrapped__", value)
    if isinstance(function, types.FunctionType):
        return bool(function.__closure__) or "<locals>" in function.__qualname__
    if isinstance(value, (type, enum.Enum, Primitive)):
        return False
    return hasattr(value, "call_wrapped") or type(value).__eq__ is object.__eq__


# --- making and applying ----------------------------------------------------------------------------------------------


def staged(fun: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """The program of fun at arguments of these types, without evaluating it: its jaxpr and the tree of its outputs."""
    jaxpr, out = jax.make_jaxpr(fun, return_shape=True)(*args)
    return jaxpr, jax.tree_util.tree_structure(out)


def function_of(jaxpr: Any) -> Callable[..., list[Any]]:
    """The function of flat arguments, and with a flat list of results, that a closed jaxpr is."""
    return jaxpr_as_fun(jaxpr)


def primitive_of(fun: Callable[..., Any], *args: Any) -> Primitive:
    """The primitive that fun applies first: for primitives that JAX gives no public name."""
    return equations(jax.make_jaxpr(fun)(*args))[0].primitive


def primitive_named(name: str, fun: Callable[..., Any], *args: Any) -> Primitive:
    """The primitive of that name in the trace of fun, at any depth."""
    jaxpr = jax.make_jaxpr(fun)(*args)
    for eqn in all_equations(jaxpr):
        if eqn.primitive.name == name:
            return eqn.primitive
    raise LookupError(f"JAX {jax.__version__} applies no primitive {name!r} where it is looked for: {jaxpr}")


def bind_params(primitive: Primitive, params: dict[Any, Any]) -> dict[Any, Any]:
    """The parameters that `bind` takes, from those of a jaxpr's equation, which holds functions as jaxprs."""
    return params if "subfuns" in params else primitive.get_bind_params(params)


def bind(primitive: Primitive, operands: Sequence[Any], params: dict[Any, Any]) -> list[Any]:
    """An equation applied to operands: its outputs, always as a list."""
    outs = primitive.bind(*operands, **bind_params(primitive, params))
    return list(outs) if primitive.multiple_results else [outs]


# --- running ----------------------------------------------------------------------------------------------------------


def interpret(
    jaxpr: Any,
    values: Sequence[Any],
    apply: Callable[[Any, list[Any]], Iterable[Any]],
    constant: Callable[[Any, Any], Any] = lambda value, aval: value,
    *,
    consts: Sequence[Any] | None = None,
    known: Mapping[Any, Any] | None = None,
    only: Sequence[Any] | None = None,
    outvars: Sequence[Any] | None = None,
) -> list[Any]:
    """The outputs of a program whose values the caller defines.

    Args:
      jaxpr: closed or open.
      values: what its inputs stand for.
      apply: `apply(eqn, operands)` -> what the equation's outputs are.
      constant: `constant(value, aval)` -> what a literal or a constant of the program is.
      consts: its constants, where they are not its own.
      known: variables that have values already.
      only: the equations to run; all, by default.
      outvars: the variables whose values are wanted; the program's outputs, by default.
    """
    jaxpr, own = open_jaxpr(jaxpr)
    env = dict(known or {})
    for var, const in zip(jaxpr.constvars, own if consts is None else consts):
        env[var] = constant(const, var.aval)
    env.update(zip(jaxpr.invars, values))

    def read(atom):
        return constant(atom.val, atom.aval) if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns if only is None else only:
        operands = [read(atom) for atom in eqn.invars]
        with equation_context(eqn.ctx.manager):
            outs = apply(eqn, operands)
        env.update(zip(eqn.outvars, outs))
    return [read(atom) for atom in (jaxpr.outvars if outvars is None else outvars)]


class Interpreter:
    """A meaning of programs: what their values are, and what primitives do to them.

    By default values are arrays and primitives compute as usual. A subclass overrides this: `constant` and `apply`
    for programs without loops, and for loops the methods below `cond`.

    Attributes:
      calls: the calls that are entered.
      most_rounds: the most steps of a loop that are run.
    """

    calls: Mapping[str, str] = CALLS
    most_rounds: float = float("inf")

    def run(self, jaxpr: Any, values: Sequence[Any]) -> list[Any]:
        return interpret(jaxpr, values, self.equation, self.constant)

    def constant(self, value: Any, aval: Any) -> Any:
        """What a literal or a constant of the program is."""
        return value

    def apply(self, eqn: Any, operands: list[Any]) -> Sequence[Any]:
        """The outputs of an equation that is neither entered nor taken apart."""
        return bind(eqn.primitive, operands, eqn.params)

    def takes_apart(self, eqn: Any, operands: list[Any]) -> bool:
        """Whether a loop or branch is run step by step; if not, it is applied as a primitive."""
        return True

    def equation(self, eqn: Any, operands: list[Any]) -> Sequence[Any]:
        inner = called(eqn.primitive, eqn.params, self.calls)
        if inner is not None:
            return self.call(eqn, inner, operands)
        control = {"scan": self.scan, "while": self.while_loop, "cond": self.cond}.get(eqn.primitive.name)
        if control is not None and self.takes_apart(eqn, operands):
            return control(eqn, operands)
        return self.apply(eqn, operands)

    def call(self, eqn: Any, inner: Any, operands: Any) -> Sequence[Any]:
        return self.run(inner, operands)

    def scan(self, eqn: Any, operands: list[Any]) -> list[Any]:
        params = eqn.params
        consts, carry, xs = scan_parts(params, operands)
        self._allow(params["length"])
        steps = range(params["length"])
        rows: list = [None] * len(steps)
        for t in reversed(steps) if params["reverse"] else steps:
            outs = self.run(params["jaxpr"], [*consts, *carry, *[self.row(eqn, x, t) for x in xs]])
            carry, rows[t] = outs[: len(carry)], outs[len(carry) :]
        stacked = [
            self.stack(eqn, [row[i] for row in rows], var.aval) for i, var in enumerate(eqn.outvars[len(carry) :])
        ]
        return [*carry, *stacked]

    def while_loop(self, eqn: Any, operands: list[Any]) -> list[Any]:
        tests, consts, state = while_parts(eqn.params, operands)
        rounds = 0
        while True:
            going = self.condition(eqn.params["cond_jaxpr"], [*tests, *state])
            if not self.goes_on(going):
                return state
            rounds += 1
            self._allow(rounds)
            after = self.run(eqn.params["body_jaxpr"], [*consts, *state])
            mapped = open_jaxpr(eqn.params["cond_jaxpr"])[0].outvars[0].aval.shape
            state = [self.select(eqn, going, new, old) for new, old in zip(after, state)] if mapped else after

    def cond(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return self.run(taken(eqn.params["branches"], self.concrete(operands[0])), operands[1:])

    def _allow(self, rounds: int) -> None:
        if rounds > self.most_rounds:
            raise NotImplementedError(f"a loop of more than {self.most_rounds} rounds")

    def concrete(self, value: Any) -> np.ndarray:
        """The integers or booleans that a value is."""
        return np.asarray(value)

    def condition(self, jaxpr: Any, values: list[Any]) -> Any:
        """What the condition of a loop is."""
        return self.run(jaxpr, values)[0]

    def goes_on(self, going: Any) -> bool:
        """Whether a loop goes on, given what its condition is: under vmap, while it holds anywhere."""
        return bool(np.any(self.concrete(going)))

    def select(self, eqn: Any, going: Any, new: Any, old: Any) -> Any:
        """The state after a step of a loop under vmap: where the condition does not hold, the state stands still."""
        going = self.concrete(going)
        return np.where(going.reshape(going.shape + (1,) * (np.ndim(new) - going.ndim)), new, old)

    def row(self, eqn: Any, x: Array, t: int) -> Any:
        """What a scan's step t sees of x."""
        return x[t]

    def stack(self, eqn: Any, rows: list[Any], aval: Any) -> Any:
        """What a scan makes of one result of each step; `aval` is its type."""
        return np.stack(rows) if rows else self.constant(np.zeros(aval.shape, aval.dtype), aval)
