"""explain: a function's value and its cotangents, step by step."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_leaves, tree_unflatten

from functional_dl.aliases import PyTree
from functional_dl.explain.explanation import Explanation
from functional_dl.explain.formulas import groups, ledger
from functional_dl.explain.formulas.naming import Name, Namer, argument_names
from functional_dl.explain.formulas.steps import Builder
from functional_dl.explain.record import recording as recording_of
from functional_dl.explain.record.recording import Traced
from functional_dl.jaxprs import function_of
from functional_dl.reverse.values import is_differentiable, tangent_dtype
from functional_dl.tree import path_name


@dataclass(frozen=True)
class Recipe:
    """What `to_python` and XLA's count are made of: the program, and the trees of what goes in and comes out.

    Fields:
      traced: both passes; None where fun decides in Python on the values of arrays.
      argnums: the arguments that are differentiated; active: which leaves.
      primals, ct: the arguments and the result's cotangent.
      out_tree: of the result.
      names: number of a value -> its name; slots: number -> slot of its cotangent.
    """

    traced: Traced | None
    argnums: tuple[int, ...]
    active: list[bool]
    primals: tuple[Any, ...]
    ct: Any
    out_tree: Any
    names: dict[int, Name]
    slots: dict[int, int]


def explain(
    fun: Callable[..., Any],
    *primals: PyTree,
    argnums: int | Sequence[int] | None = None,
    ct: Any = None,
    check: bool = True,
    values: bool = True,
    xla: bool = False,
    seed: int = 0,
) -> Explanation:
    """Shows how a function's value and cotangents are computed: y = f(x), x_bar = (df/dx)^T y_bar.

    The function is run with the hand-written reverse mode's own front, and each equation is paired with its pullback:
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
      TypeError: fun is not callable, or returns anything but arrays.
      ValueError: argnums names an argument that does not exist, or no argument can be differentiated.
    Example:
      >>> shown = explain.explain(lambda x: 3 * (2 * x**2) ** 5, 0.7)
      >>> len(shown.steps), shown.passed
      (4, True)
    """
    if not callable(fun):
        raise TypeError(f"fun: expected a callable, got {fun!r}")
    chosen = _chosen(argnums, primals)
    paths, in_tree = tree_flatten_with_path(primals)
    leaves = recording_of.distinct([leaf for _, leaf in paths])
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

    recording, cts = recording_of.both(flat, leaves, active, lambda outs: cotangents(outs, ct, store["tree"], seed))
    labels = _argument_labels(fun, primals, paths)
    namer = Namer()
    inputs = [namer.give(name, None, label, x.ndim) for name, label, x in zip(argument_names(labels), labels, leaves)]
    name = _function_name(fun)
    builder = Builder(namer, check, values, seed, name)
    part = builder.part(recording, inputs, top=True)
    outline, loose = groups.tree(part.steps)
    recipe = Recipe(
        recording.traced,
        tuple(sorted(chosen)),
        active,
        primals,
        tree_unflatten(store["tree"], cts),
        store["tree"],
        part.names,
        recording.recorder.slot_of,
    )
    return Explanation(
        values=builder.values,
        steps=tuple(part.steps),
        groups=outline,
        inputs=tuple(recording.inputs),
        outputs=tuple(recording.outputs),
        ledger=ledger.build(part.steps, recording, xla=_xla_flops(recipe) if xla else None),
        source=_source(fun),
        name=name,
        loose=loose,
        recipe=recipe,
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


def cotangents(outs: Sequence[Any], ct: Any, tree: Any, seed: int) -> list[Any]:
    """The outputs' cotangents: those given, else 1 for a single scalar, random numbers of size 1 for arrays."""
    if ct is not None:
        leaves, given = tree_flatten(ct)
        if given != tree:
            raise ValueError(f"ct: expected the structure of fun's result, {tree}, got {given}")
        for leaf, out in zip(leaves, outs):
            if jnp.shape(leaf) != jnp.shape(out):
                raise ValueError(f"ct: expected the shape of fun's result, {jnp.shape(out)}, got {jnp.shape(leaf)}")
        types = [out.dtype if hasattr(out, "dtype") else jnp.asarray(out).dtype for out in outs]
        return [jnp.asarray(leaf, dtype) for leaf, dtype in zip(leaves, types)]
    rng = np.random.default_rng(seed)
    cts = []
    for out in outs:
        dtype = tangent_dtype(out.dtype if hasattr(out, "dtype") else jax.typeof(out).dtype)
        if dtype == jax.float0:
            cts.append(None)
        elif jnp.shape(out) == ():
            cts.append(jnp.ones((), dtype))
        else:
            cts.append(jnp.asarray(rng.normal(size=jnp.shape(out))).astype(dtype))
    return cts


def _argument_labels(fun, primals, paths) -> list[str]:
    """The path of each leaf: the argument's name, and where in it, as "params/layers/0/w"."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    single = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    after = [f"{several}[{i}]" if several else f"x{len(single) + i}" for i in range(len(primals) - len(single))]
    names = [*single, *after]
    return ["/".join([names[path[0].idx], *([path_name(path[1:])] if path[1:] else [])]) for path, _ in paths]


def _source(fun) -> str:
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(fun)))
    except (OSError, TypeError):
        return ""


def _xla_flops(recipe: Recipe) -> float:
    if recipe.traced is None:
        raise TypeError("xla: fun decides in Python on the value of an array, so there is no program to compile")
    program = function_of(recipe.traced.program)
    wanted = len(recipe.traced.outs) + len(recipe.traced.bars)
    args = [jnp.asarray(x) for x in tree_leaves((recipe.primals, recipe.ct))]
    cost = jax.jit(lambda *args: program(*args)[:wanted]).lower(*args).compile().cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return float((cost or {}).get("flops", float("nan")))
