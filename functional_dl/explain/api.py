"""explain: a function's value and its cotangents, step by step."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from functional_dl.explain import backward, bodies, checks, flops, groups, latex, ledger, program, sources, summaries
from functional_dl.explain.explanation import Check, Explanation, Meeting, Step, Value
from functional_dl.explain.naming import Name, Namer, argument_name, bar, latex_of, name_values
from functional_dl.explain.program import Entry, Recording
from functional_dl.reverse.trace import Residual, is_differentiable, is_reference, tangent_dtype


@dataclass(frozen=True)
class Recipe:
    """What is needed to run the function again: it, its arguments, which are differentiated, the cotangent."""

    fun: Callable
    primals: tuple
    argnums: tuple[int, ...]
    ct: Any
    names: dict[int, Name] = field(default_factory=dict)
    input_numbers: tuple[int, ...] = ()


def explain(
    fun: Callable,
    *primals,
    argnums: int | Sequence[int] | None = None,
    ct: Any = None,
    check: bool = True,
    values: bool = True,
    xla: bool = False,
    seed: int = 0,
) -> Explanation:
    r"""Shows how a function's value and cotangents are computed: y = f(x), \bar x = (\partial f/\partial x)^T \bar y.

    The function is run with the hand-written reverse mode's own front, and each equation is paired with its way back:
    formula, derivation, source line, numbers, costs, and a check of the rule at these numbers.

    Args:
      fun: function of pytrees of arrays that returns a pytree of arrays.
      *primals: where it is explained.
      argnums: the arguments that are differentiated; all that are floating, by default.
      ct: the output's cotangent; by default 1 for a scalar, random numbers for an array.
      check: whether each step's rule is checked.
      values: whether numbers are summarised.
      xla: whether the program is compiled for XLA's own count of its operations.
      seed: of random cotangents and of the checks.
    Returns:
      Explanation.
    Raises:
      TypeError: fun is not callable, or returns what is no array.
      ValueError: argnums names an argument that is not there, or no argument can be differentiated.
    """
    if not callable(fun):
        raise TypeError(f"fun: expected a callable, got {fun!r}")
    chosen = _chosen(argnums, primals)
    paths, in_tree = tree_flatten_with_path(primals)
    leaves = program.distinct([leaf for _, leaf in paths])
    active = [path[0].idx in chosen and is_differentiable(jax.typeof(x)) for (path, _), x in zip(paths, leaves)]
    if not any(active):
        raise ValueError(f"argnums: none of the arguments {sorted(chosen)} holds floating numbers to differentiate by")
    store: dict = {}

    def flat(*xs):
        paths_out, store["tree"] = tree_flatten_with_path(fun(*tree_unflatten(in_tree, xs)))
        for path, leaf in paths_out:
            if not (hasattr(leaf, "shape") or isinstance(leaf, int | float | complex)):
                raise TypeError(f"fun: expected arrays to be returned, got {type(leaf).__name__} at out{keystr(path)}")
        return [leaf for _, leaf in paths_out]

    outs, recording = program.run(flat, leaves, active, flat.__code__)
    cts = cotangents(outs, ct, store["tree"], seed)
    labels = _argument_labels(fun, primals, paths)
    namer = Namer()
    inputs = [namer.give(argument_name(label), None, label, x.ndim) for label, x in zip(labels, leaves)]
    name = _function_name(fun)
    maker = _Maker(namer, check, values, seed, name)
    part = maker.part(recording, cts, inputs, top=True)
    outline, loose = groups.tree(part.steps)
    recipe = Recipe(
        fun, primals, tuple(sorted(chosen)), tree_unflatten(store["tree"], cts), part.names, tuple(recording.inputs)
    )
    made = ledger.build(part.steps, recording, xla=_xla_flops(recipe) if xla else None)
    return Explanation(
        maker.values,
        tuple(part.steps),
        outline,
        tuple(recording.inputs),
        tuple(recording.outputs),
        made,
        _source(fun),
        name,
        loose,
        recipe,
    )


def _function_name(fun) -> str:
    name = getattr(fun, "__name__", "") or getattr(getattr(fun, "func", None), "__name__", "")
    return name if name.isidentifier() else "f"


def _chosen(argnums, primals) -> set[int]:
    count = len(primals)
    if argnums is None:
        return set(range(count))
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in given:
        if not -count <= n < count:
            raise ValueError(f"argnums: expected numbers of the {count} arguments, got {n}")
    return {n % count for n in given}


def cotangents(outs: Sequence, ct: Any, tree, seed: int) -> list:
    """The outputs' cotangents: those given, else 1 for a single scalar, random numbers of size 1 for arrays."""
    if ct is not None:
        leaves, given = tree_flatten(ct)
        if given != tree:
            raise ValueError(f"ct: expected the structure of fun's result, {tree}, got {given}")
        for leaf, out in zip(leaves, outs):
            if jnp.shape(leaf) != jnp.shape(out):
                raise ValueError(f"ct: expected the shape of fun's result, {jnp.shape(out)}, got {jnp.shape(leaf)}")
        return [jnp.asarray(leaf, jnp.asarray(out).dtype) for leaf, out in zip(leaves, outs)]
    rng = np.random.default_rng(seed)
    cts = []
    for out in outs:
        dtype = tangent_dtype(jax.typeof(out).dtype)
        if dtype == jax.float0:
            cts.append(None)
        elif jnp.shape(out) == ():
            cts.append(jnp.ones((), dtype))
        else:
            cts.append(jnp.asarray(rng.normal(size=jnp.shape(out))).astype(dtype))
    return cts


def _argument_labels(fun, primals, paths) -> list[str]:
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for i in range(len(primals)):
        p = parameters[i] if i < len(parameters) else (parameters[-1] if parameters else None)
        if p is None:
            names.append(f"x{i}")
        elif p.kind is p.VAR_POSITIONAL:
            names.append(f"{p.name}[{i - len(parameters) + 1}]")
        else:
            names.append(p.name)
    return [names[path[0].idx] + keystr(path[1:]) for path, _ in paths]


def _source(fun) -> str:
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(fun)))
    except (OSError, TypeError):
        return ""


def _xla_flops(recipe: Recipe) -> float:
    from functional_dl.explain.python import value_and_vjp_of

    fun, args = value_and_vjp_of(recipe)
    cost = jax.jit(fun).lower(*args).compile().cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return float((cost or {}).get("flops", float("nan")))


@dataclass
class _Part:
    """A recorded program, made into steps."""

    steps: list[Step]
    names: dict[int, Name]
    recording: Recording
    offset: int


class _Maker:
    """Makes steps and values out of recordings; numbers of values and steps are unique over all of them."""

    def __init__(self, namer: Namer, check: bool, values: bool, seed: int, function: str):
        self.function = function
        self.namer, self.check, self.summaries, self.seed = namer, check, values, seed
        self.values: dict[int, Value] = {}
        self.next_step = 0
        self.cost: dict = {}

    def part(self, recording: Recording, cts: Sequence, inputs: list[Name], top: bool = False) -> _Part:
        offset = 0 if top else max(self.values, default=-1) + 1
        first = 0 if top else self.next_step
        entries = recording.notebook.entries
        self.next_step = first + len(entries)
        pulled: dict[int, dict] = {}
        costs: dict[int, int] = {}

        def note(index, equation, out_cts, bars):
            here = pulled.setdefault(index, {})
            for slot, b in zip(equation.inputs, bars):
                if slot is not None and b is not None:
                    here[slot] = b if slot not in here else here[slot] + b
            costs[index] = costs.get(index, 0) + flops.count(_way_back(equation, out_cts))

        backward.sweep(recording, cts, note)
        _count_sums(recording, costs)
        names = name_values(recording, inputs, self.namer, self.function if top else "")
        kept, kept_bytes = _residuals(recording)
        self.enter_values(recording, names, kept, offset)
        paths = groups.paths(entries)
        meetings = _meetings(recording, names, first, offset)
        steps = [
            self.step(recording, entry, path, names, first, offset, pulled, costs, kept_bytes, meetings)
            for entry, path in zip(entries, paths)
        ]
        return _Part(steps, names, recording, offset)

    def enter_values(self, recording, names, kept, offset) -> None:
        notebook = recording.notebook
        made = {number for entry in notebook.entries for number in entry.out_ids}
        used = {number for entry in notebook.entries for number in (*entry.ins, *entry.out_ids)}
        for number, value in enumerate(notebook.values):
            if number not in used and number not in recording.inputs and number not in recording.outputs:
                continue
            if number in recording.inputs:
                role = "input"
            elif number in recording.outputs:
                role = "output"
            else:
                role = "intermediate" if number in made else "constant"
            slot = notebook.slot_of.get(number)
            ct = recording.cts.get(slot) if slot is not None else None
            aval = jax.typeof(value)
            name = names[number]
            shape = tuple(getattr(aval, "shape", ()))
            dtype = getattr(aval, "dtype", "reference")
            self.values[offset + number] = Value(
                offset + number,
                name.name,
                name.latex,
                shape,
                str(dtype),
                _bytes(aval),
                role,
                summaries.summarise(value) if self.summaries else None,
                summaries.summarise(ct) if self.summaries and ct is not None else None,
                number in kept,
                ct is not None,
                name.label,
                summaries.text(value) if self.summaries else "",
                summaries.text(ct) if self.summaries and ct is not None else "",
            )

    def step(self, recording, entry: Entry, path, names, first, offset, pulled, costs, kept_bytes, meetings) -> Step:
        out_cts = [None if s is None else recording.cts.get(s) for s in entry.out_slots]
        bars = pulled.get(entry.index, {})
        active = tuple(i for i in entry.active if entry.slots[i] in bars or entry.slots[i] in recording.cts)
        xs = tuple(
            latex.number(x) if n is None else _operand(names[n], x, n, recording)
            for n, x in zip(entry.ins, entry.operands)
        )
        ys = tuple(names[n].latex for n in entry.out_ids)
        terms = latex.Terms(
            xs,
            ys,
            entry.params,
            tuple(np.shape(x) if n is None else tuple(jnp.shape(x)) for n, x in zip(entry.ins, entry.operands)),
            tuple(tuple(jnp.shape(y)) for y in entry.outs),
            0,
            active if any(ct is not None for ct in out_cts) else (),
            entry.label,
        )
        forward, back = latex.equations(entry.primitive.name, terms)
        inner = bodies.body_of(entry, out_cts)
        body, arguments = self.body(entry, inner, names) if inner is not None else ((), ())
        trips = inner.trips if inner is not None else 1
        rule = entry.rule
        frames = entry.frames
        scale = trips if entry.primitive.name == "while" else 1
        return Step(
            first + entry.index,
            entry.primitive.name,
            tuple(frame.place for frame in frames),
            sources.text(frames[0]) if frames else "",
            path,
            tuple(offset + n for n in entry.ins if n is not None),
            tuple(offset + n for n in entry.out_ids),
            forward,
            back,
            rule.derivation if rule is not None else "",
            _is_linear(entry),
            scale * self.forward_flops(entry),
            scale * costs.get(entry.index, 0),
            kept_bytes.get(entry.index, 0),
            self.checked(entry, out_cts, bars),
            body,
            tuple(meetings.get(entry.index, ())),
            _title(entry, names),
            entry.label.strip("_"),
            trips,
            arguments,
        )

    def checked(self, entry, out_cts, bars) -> Check | None:
        if not self.check or not bars:
            return None
        return checks.check(entry, out_cts, bars, self.seed)

    def forward_flops(self, entry: Entry) -> int:
        if any(is_reference(jax.typeof(x)) for x in (*entry.operands, *entry.outs) if hasattr(x, "shape")):
            return 0
        types = tuple((jnp.shape(x), str(jnp.result_type(x))) if hasattr(x, "dtype") else None for x in entry.operands)
        key: Any = (entry.primitive, types, tuple(sorted((k, repr(v)) for k, v in entry.params.items())))
        if entry.body_is_in_params:
            key = entry
        if key not in self.cost:
            self.cost[key] = flops.count(jax.make_jaxpr(entry.apply)(*entry.operands))
        return self.cost[key]

    def body(self, entry: Entry, inner: bodies.Body, names) -> tuple[tuple[Step, ...], tuple[int, ...]]:
        """The steps of the program inside of an equation, and the ids of its arguments."""
        _, consts = latex_consts(inner)
        _, recording = program.run_jaxpr(inner.jaxpr, consts, inner.values, inner.active)
        inputs = []
        words = _argument_words(inner)
        for i, kind in enumerate(inner.kinds):
            number = entry.ins[inner.outer[i]]
            outer = names.get(number) if number is not None else None
            ndim = len(jnp.shape(inner.values[i]))
            if kind == "const":
                wanted = outer.name if outer is not None else words[i]
                inputs.append(self.namer.give(wanted, outer.latex if outer else None, "", ndim))
            else:
                base = latex_of(words[i], ndim)
                tex = f"{{{base}}}_{{t}}" if "_" in base else f"{base}_{{t}}"
                inputs.append(self.namer.give(words[i], tex, words[i], ndim))
        part = self.part(recording, inner.cts, inputs)
        return tuple(part.steps), tuple(part.offset + number for number in recording.inputs)


def latex_consts(inner: bodies.Body):
    from functional_dl.reverse.trace import open_jaxpr

    return open_jaxpr(inner.jaxpr)


def _argument_words(inner: bodies.Body) -> list[str]:
    """Names of a body's arguments, as its function calls them where JAX knows."""
    from functional_dl.reverse.trace import open_jaxpr

    info = getattr(open_jaxpr(inner.jaxpr)[0], "debug_info", None)
    known = [str(n or "") for n in (getattr(info, "arg_names", None) or ())]
    known = [""] * (len(inner.kinds) - len(known)) + known[-len(inner.kinds) :]
    return [argument_name(word) if word else kind for word, kind in zip(known, inner.kinds)]


def _operand(name: Name, value, number, recording) -> str:
    """An operand's LaTeX: constants that are single numbers are written as such."""
    if number in recording.inputs or any(number in e.out_ids for e in recording.notebook.entries):
        return name.latex
    if jnp.shape(value) == () and hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, np.number):
        return latex.number(np.asarray(value))
    return name.latex


def _way_back(equation, out_cts):
    def pull(cts):
        bars = equation.pull(cts)
        return [
            bar() if callable(bar) else bar
            for slot, bar in zip(equation.inputs, bars)
            if slot is not None and bar is not None
        ]

    return jax.make_jaxpr(pull)(out_cts)


def _count_sums(recording: Recording, costs: dict[int, int]) -> None:
    """Adds the additions where paths meet to the steps whose terms come second."""
    for slot, origins in recording.terms.items():
        ct = recording.cts.get(slot)
        size = int(np.prod(jnp.shape(ct))) if ct is not None else 0
        for origin in origins[1:]:
            if origin is not None:
                costs[origin] = costs.get(origin, 0) + size


def _residuals(recording: Recording) -> tuple[set[int], dict[int, int]]:
    """Numbers of the values that are kept, and for each entry the bytes that are kept for it and for none before."""
    notebook = recording.notebook
    given = set(recording.inputs)
    made = {number for entry in notebook.entries for number in entry.out_ids}
    kept: set[int] = set()
    costs: dict[int, int] = {}
    seen: set[int] = set()
    for equation in recording.program.equations:
        for place in _positions(equation):
            value = recording.residuals[place]
            number = notebook.numbers.get(id(value))
            if id(value) in seen or (number is not None and (number in given or number not in made)):
                continue
            seen.add(id(value))
            if number is not None:
                kept.add(number)
            costs[equation.source] = costs.get(equation.source, 0) + _bytes(jax.typeof(value))
    return kept, costs


def _positions(equation) -> list[int]:
    """Positions among the residuals that a flattened equation reads."""
    held = [*equation.operands, *equation.results] if hasattr(equation, "operands") else equation.residuals[1]
    return [x.position for x in held if type(x) is Residual]


def _meetings(recording: Recording, names, first, offset) -> dict[int, list[Meeting]]:
    """For each entry, the values whose cotangent is complete at its way back and is a sum: its outputs, and the inputs
    of the program that it is the first to use."""
    number_of: dict[int, int] = {}
    for number, slot in recording.notebook.slot_of.items():
        number_of.setdefault(slot, number)
    made = {number: entry.index for entry in recording.notebook.entries for number in entry.out_ids}
    used: dict[int, int] = {}
    for entry in recording.notebook.entries:
        for number in entry.ins:
            if number is not None:
                used.setdefault(number, entry.index)
    found: dict[int, list[Meeting]] = {}
    for slot, origins in recording.terms.items():
        number = number_of.get(slot)
        if number is None or len(origins) < 2:
            continue
        place = made.get(number, used.get(number))
        if place is None:
            continue
        name = bar(names[number].latex)
        count = len(origins)
        plain = f"{{{name}}}" if "^" in name or "'" in name else name
        tex = f"{name} = \\sum_{{k=1}}^{{{count}}} {plain}^{{(k)}}"
        if count <= 4:
            tex = f"{name} = {' + '.join(f'{plain}^{{({k + 1})}}' for k in range(count))}"
        terms = tuple(None if o is None else first + o for o in origins)
        found.setdefault(place, []).append(Meeting(offset + number, terms, tex))
    return found


def _is_linear(entry: Entry) -> bool:
    """Whether the rule reads neither the output nor an operand that is differentiated."""
    rule = entry.rule
    if rule is None or rule.formula is None or not entry.active:
        return False
    wanted = tuple(i in entry.active for i in range(len(entry.slots)))
    keep_out, *keep = rule.kept(wanted)
    return not keep_out and not any(keep[i] for i in entry.active)


def _title(entry: Entry, names) -> str:
    word = entry.label.strip("_") or entry.primitive.name
    shown = [names[n].name if n is not None else _short(x) for n, x in zip(entry.ins, entry.operands)]
    outs = ", ".join(names[n].name for n in entry.out_ids)
    return f"{outs} = {word}({', '.join(shown)})"


def _short(x) -> str:
    try:
        return f"{np.asarray(x).item():g}"
    except (TypeError, ValueError):
        return type(x).__name__


def _bytes(aval) -> int:
    shape, dtype = getattr(aval, "shape", ()), getattr(aval, "dtype", None)
    size = int(np.prod([d for d in shape if isinstance(d, int)]))
    return size * int(getattr(dtype, "itemsize", 0))
