"""What a rule is, and the tables that hold the rules.

A rule states the reverse-mode derivative of one primitive, y = p(x_1, ..., x_n; params), as the map

    y_bar  ->  (x_1_bar, ..., x_n_bar),      x_i_bar = (dy/dx_i)^T y_bar,

written as `vjp(ct, out, *primals, **params)`: `ct` is y_bar, `out` is y, `primals` are the x_i.  (Complex numbers: T is
the transpose, not the adjoint, which is JAX's convention.)  The function returns one entry per primal:

  an array       the cotangent x_i_bar, of the shape and dtype of x_i;
  a thunk        a function without arguments that computes it: it is called only where x_i_bar is wanted;
  None           zero.

PRIMITIVES is the one table: primitive -> `Rule`, `Zero` (the derivative is zero wherever it exists; the reason is kept)
or `Unsupported` (no derivative is offered; the reason is kept and is what the user reads).  On a rule stands everything
that is known of its primitive: formula, derivation, LaTeX, probes, what it reads.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jax.extend.core import Primitive

from functional_dl.reverse.latex import Latex, Text, as_latex
from functional_dl.reverse.values import formed

FLOATS = ("float64", "float32", "bfloat16", "float16")
COMPLEX = ("complex128", "complex64")

# (ct, out, *primals, **params) -> one cotangent a primal: an array, a thunk that computes it, None for zero
Formula: TypeAlias = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Probe:
    """A program that applies the primitive, and where to try it: what a rule is tested with.

    Args:
      fun: function of as many arrays as there are shapes; its trace holds the primitive.
      shapes: the arrays' shapes.
      low, high: the arrays' entries are drawn evenly from [low, high).
      dtypes: names of the dtypes to try.
      elementwise: fun acts entry by entry on equal shapes, so that other shapes may be tried too.
      exact: the same function of one number (or of as many as there are shapes) in multiple precision,
        `exact(mp, *numbers)`, where mp is the mpmath module; only for elementwise functions.
      distinct: entries are kept at least this far apart (for max, sort and their like, whose ties are kinks).
      order: derivatives up to this order are compared.
      smooth: differences of fun tend to its derivative; not so where fun rounds.
      forward: JAX's forward mode can differentiate fun; not so for custom_vjp.
    """

    fun: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ((3,),)
    low: float = -2.0
    high: float = 2.0
    dtypes: tuple[str, ...] = FLOATS
    elementwise: bool = False
    exact: Callable[..., Any] | None = None
    distinct: float = 0.0
    order: int = 2
    smooth: bool = True
    forward: bool = True


@dataclass(frozen=True, eq=False)
class Rule:
    """The derivative of one primitive.

    Attributes:
      primitive: the primitive.
      vjp: `vjp(ct, out, *primals, **params)` -> one cotangent per primal, None for zero (thunks are evaluated).
      probes: programs that the rule is tested on.
      formula: the function as written, whose entries may be thunks: what the sweep calls.
      reads: for each primal, whether its cotangent reads the values of (out, *primals); of values that no cotangent
        reads, the formula sees shape and dtype only, and they are not kept for the backward pass.  A last entry
        stands for all further ones.
      forward: for primitives that hold programs of their own: `forward(tape, values, slots, **params)` records the
        program and returns its outputs' values and slots (see trace.Tape).  Then there is no `formula`.
      value: another program of y that is cheaper than the primitive as XLA compiles it, `value(*primals, **params)`:
        the value is computed by it where the equation is recorded.
      derivation: the docstring.
      latex: the formulas forward and backward, as they are shown to a reader; None for general ones.
      stateful: the operands' slots do not tell whether the rule is needed: it works on references.
      takes_references: a loop, branch or call whose program may work on the caller's references.
      reshapes: where y has as many entries as x, it is x in another shape, in row-major order: the cotangent is y_bar
        in the shape of x.
      explicit: the formula holds as it is on a mesh with Explicit axes, because it acts entry by entry or says how what
        it computes is laid out.  If not, the compiler chooses that, on a mesh whose axes are Auto meanwhile.
      compares: the formula reads values to compare them alone: where keeping costs memory, the booleans are kept.
      hermitian: the primal counts as a Hermitian matrix, of which the primitive may read one triangle, and the formula
        holds for Hermitian changes of it.
    """

    primitive: Primitive
    vjp: Callable[..., tuple[Any, ...]]
    probes: tuple[Probe, ...]
    formula: Any = None
    reads: tuple[tuple[bool, ...], ...] = ((True, True),)
    forward: Any = None
    value: Callable[..., Any] | None = None
    derivation: str = ""
    latex: Latex | None = None
    stateful: bool = False
    takes_references: bool = False
    explicit: bool = False
    reshapes: bool = False
    compares: bool = False
    hermitian: bool = False

    def kept(self, wanted: tuple[bool, ...]) -> list[bool]:
        """Which of (out, *primals) to keep where the cotangents of the wanted primals will be asked for."""
        masks = [_last(self.reads, i) for i, w in enumerate(wanted) if w]
        return [any(_last(mask, j) for mask in masks) for j in range(len(wanted) + 1)]


def _last(sequence, i):
    return sequence[min(i, len(sequence) - 1)]


@dataclass(frozen=True)
class Zero:
    """The derivative is zero wherever it exists: the outputs are constants to the sweep.

    Attributes:
      reason: why.
      latex: the formula forward.
    """

    reason: str
    latex: Latex | None = None


@dataclass(frozen=True)
class Unsupported:
    """No derivative is offered; a user who needs one gets `error` with the reason."""

    reason: str
    error: type[Exception] = NotImplementedError


class Table(dict[Primitive, Rule | Zero | Unsupported]):
    """The table, and how often it was changed: programs that were compiled by other rules are not used again."""

    version: int = 0

    def __setitem__(self, primitive: Primitive, entry: Rule | Zero | Unsupported) -> None:
        self.version += 1
        super().__setitem__(primitive, entry)

    def __delitem__(self, primitive: Primitive) -> None:
        self.version += 1
        super().__delitem__(primitive)

    def update(self, *entries: Any, **named: Any) -> None:
        self.version += 1
        super().update(*entries, **named)

    def pop(self, *args: Any) -> Any:
        self.version += 1
        return super().pop(*args)


PRIMITIVES = Table()


class Rules(Mapping[Primitive, Rule]):
    """The primitives of PRIMITIVES that have a rule."""

    def __getitem__(self, primitive: Primitive) -> Rule:
        entry = PRIMITIVES[primitive]
        if not isinstance(entry, Rule):
            raise KeyError(primitive)
        return entry

    def __iter__(self) -> Iterator[Primitive]:
        return (primitive for primitive, entry in PRIMITIVES.items() if isinstance(entry, Rule))

    def __len__(self) -> int:
        return sum(isinstance(entry, Rule) for entry in PRIMITIVES.values())

    def __repr__(self) -> str:
        return f"RULES: rules of {len(self)} primitives, RULES[primitive] -> Rule(primitive, vjp, probes, ...)"


RULES = Rules()
LATE: dict[str, Callable[[], None]] = {}  # beginning of primitives' names -> what registers their rules
FALLBACKS: list[Callable[[Primitive], Rule | None]] = []  # asked for the rule of a primitive that is not in the table


def vjp_rule(
    primitive: Primitive,
    *probes: Probe,
    reads: str | tuple[str, ...] | None = None,
    latex: Latex | tuple[Text, ...] | None = None,
    value: Callable[..., Any] | None = None,
    explicit: bool | None = None,
    reshapes: bool = False,
    compares: bool = False,
    hermitian: bool = False,
) -> Callable[[Formula], Formula]:
    """Decorator: registers the function as the rule of `primitive` and returns it.

    The function's docstring is the derivation.  A rule without a derivation or a probe is refused.

    Args:
      primitive: the primitive whose derivative is stated.
      probes: at least one program that applies it.
      reads: names of the arguments, among `out` and the primals, whose values the formula reads, separated by blanks;
        "" where it reads shapes and dtypes alone.  A tuple of such texts, one for each primal, says what each
        primal's cotangent reads: for z = x y, ("y", "x").  By default all values are kept.
      explicit: whether the formula holds as it is on a mesh with Explicit axes; see Rule.  By default it does if the
        primitive acts entry by entry, as one of its probes says.
      latex: (right-hand side of y = ..., that of each primal's cotangent, ...), in the notation of reverse.latex:
        for y = log x, (r"\\ln <x>", r"<c> / <x>").
      value: `value(*primals, **params)`, a program of y that is cheaper than the primitive's own; differentiable as
        often as wanted.
      reshapes: y is x in another shape, where it has as many entries; see Rule.
      compares: the formula reads values to compare them alone; see Rule.
      hermitian: the primal counts as a Hermitian matrix; see Rule.
    Raises:
      TypeError: primitive is not a jax primitive, or a probe is not a Probe.
      ValueError: no derivation, no probe, a second rule for the primitive, a name in reads that is no argument, or
        compares of a primitive with several results.
    """
    check_registration(primitive, probes)
    if compares and primitive.multiple_results:
        raise ValueError(f"vjp_rule({primitive}): compares=True: expected one result, got several.")
    own = any(probe.elementwise for probe in probes) if explicit is None else explicit

    def register(formula: Formula) -> Formula:
        derivation = derivation_of(primitive, formula)
        mask = _read_mask(formula, reads)
        vjp = evaluated(formula)
        PRIMITIVES[primitive] = Rule(
            primitive,
            vjp,
            probes,
            formula,
            mask,
            value=value,
            derivation=derivation,
            latex=as_latex(latex),
            explicit=own,
            reshapes=reshapes,
            compares=compares,
            hermitian=hermitian,
        )
        return formula

    return register


def zero_derivative(reason: str, *primitives: Primitive, latex: Mapping[Primitive, Text] | None = None) -> None:
    """Enters primitives whose derivative is zero wherever it exists; of some, the formula forward."""
    formulas = latex or {}
    for primitive in (*primitives, *formulas):
        _check_unclaimed(primitive)
        PRIMITIVES[primitive] = Zero(reason, as_latex(formulas.get(primitive)))


def unsupported(reason: str, *primitives: Primitive, error: type[Exception] = NotImplementedError) -> None:
    """Enters primitives for which no derivative is offered; a user who needs one gets `error` with the reason."""
    for primitive in primitives:
        _check_unclaimed(primitive)
        PRIMITIVES[primitive] = Unsupported(reason, error)


def late_rules(*beginnings: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorator: the function registers rules, once a primitive is met whose name begins so.

    For primitives of modules that are slow to import: a program that applies one has loaded its module already.
    """

    def register(fun: Callable[[], None]) -> Callable[[], None]:
        LATE.update({name: fun for name in beginnings})
        return fun

    return register


def fallback(fun: Callable[[Primitive], Rule | None]) -> Callable[[Primitive], Rule | None]:
    """Decorator: the function is asked for the rule of a primitive that is not in the table; it answers None where it
    has none.  What it answers does not enter the table, so that the primitive's owner may still state a rule."""
    FALLBACKS.append(fun)
    return fun


def entry_of(primitive: Primitive) -> Rule | Zero | Unsupported | None:
    """What the table says of a primitive; late rules are registered first, and fallbacks asked last."""
    entry = own_entry(primitive)
    if entry is None:
        entry = next((rule for rule in (offer(primitive) for offer in FALLBACKS) if rule is not None), None)
    return entry


def own_entry(primitive: Primitive) -> Rule | Zero | Unsupported | None:
    """As `entry_of`, but no fallback is asked."""
    entry = PRIMITIVES.get(primitive)
    if entry is None and LATE:
        for fun in {fun for name, fun in LATE.items() if primitive.name.startswith(name)}:
            for name in [name for name in LATE if LATE[name] is fun]:
                del LATE[name]
            fun()
            entry = PRIMITIVES.get(primitive)
    return entry


def rule_of(primitive: Primitive) -> Rule | None:
    """The rule of a primitive, if it has one."""
    entry = entry_of(primitive)
    return entry if isinstance(entry, Rule) else None


def is_constant(primitive: Primitive) -> bool:
    """Whether the primitive's outputs are constants to the sweep."""
    return isinstance(PRIMITIVES.get(primitive), Zero)


def check_registration(primitive: Any, probes: Sequence[Any]) -> None:
    if not isinstance(primitive, Primitive):
        raise TypeError(f"vjp_rule: primitive must be a jax.extend.core.Primitive, got {primitive!r}.")
    _check_unclaimed(primitive)
    if not probes:
        raise ValueError(
            f"vjp_rule({primitive}): a rule needs at least one Probe, a program that applies the primitive; got none."
        )
    for probe in probes:
        if not isinstance(probe, Probe):
            raise TypeError(f"vjp_rule({primitive}): probes must be Probe objects, got {probe!r}.")


def _check_unclaimed(primitive: Primitive) -> None:
    if primitive in PRIMITIVES:
        kind = type(PRIMITIVES[primitive]).__name__
        raise ValueError(f"{primitive}: the primitive stands in the table already, as {kind}.")


def derivation_of(primitive: Any, fun: Callable[..., Any]) -> str:
    derivation = inspect.getdoc(fun)
    if not derivation:
        raise ValueError(
            f"vjp_rule({primitive}): the rule needs its derivation as a docstring, {fun.__name__} has none."
        )
    return derivation


def _read_mask(formula, reads: str | tuple[str, ...] | None) -> tuple[tuple[bool, ...], ...]:
    parameters = list(inspect.signature(formula).parameters.values())
    names = [p.name for p in parameters[1:] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    if reads is None:
        return ((True, True),)
    masks = []
    for wanted in (reads,) if isinstance(reads, str) else reads:
        unknown = set(wanted.split()) - set(names)
        if unknown:
            raise ValueError(f"reads: {sorted(unknown)} are no arguments of {formula.__name__}, which has {names}.")
        masks.append(tuple(name in wanted.split() for name in names))
    return tuple(masks)


def evaluated(formula: Formula) -> Callable[..., tuple[Any, ...]]:
    """The formula with its thunks evaluated."""

    def vjp(ct, out, *primals, **params):
        return tuple(formed(bar() if callable(bar) else bar) for bar in formula(ct, out, *primals, **params))

    vjp.__name__ = formula.__name__
    vjp.__doc__ = formula.__doc__
    return vjp
