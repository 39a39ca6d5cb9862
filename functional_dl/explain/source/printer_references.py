"""Source of mutable references."""

from __future__ import annotations

from jax.tree_util import tree_unflatten

from functional_dl.explain.source.literals import show
from functional_dl.explain.source.printer import Line, printers


def _index(line: Line, first: int) -> str:
    """The index of an access, whose parts are the operands from `first` on."""
    avals = [atom.aval for atom in line.atoms[first:]]
    named = {id(aval): line.texts[first + i] for i, aval in enumerate(avals)}
    numbers = {id(aval): line.atoms[first + i] for i, aval in enumerate(avals)}
    transforms = tree_unflatten(line.params["tree"], avals)
    if not transforms:
        return "..."
    if len(transforms) > 1 or not hasattr(transforms[0], "indices"):
        raise NotImplementedError(f"to_python: a reference seen through {transforms}")
    parts = []
    for part in transforms[0].indices:
        if hasattr(part, "size") and hasattr(part, "start"):
            if not (isinstance(part.start, int) and isinstance(part.size, int)):
                raise NotImplementedError("to_python: a slice of a reference at a place that is computed")
            stride = getattr(part, "stride", 1)
            parts.append(f"slice({part.start}, {part.start + (part.size - 1) * stride + 1}, {stride})")
        elif id(part) in named:
            number = getattr(numbers[id(part)], "val", None)
            parts.append(named[id(part)] if number is None else str(int(number)))
        else:
            parts.append(str(int(part)))
    return f"({', '.join(parts)},)"


def _empty(line: Line) -> str:
    kind = line.params["ty"]
    return f"jax.new_ref(jnp.zeros({show(kind.shape)}, {show(kind.dtype)}))"  # outside of compiled programs


printers(
    empty_ref=_empty,
    free_ref=lambda line: f"jax.ref.freeze({line.texts[0]})",
    new_ref=lambda line: f"jax.new_ref({line.arg(0)})",
    freeze=lambda line: f"jax.ref.freeze({line.texts[0]})",
    get=lambda line: f"jax.ref.get({line.texts[0]}, {_index(line, 1)})",
    swap=lambda line: f"jax.ref.swap({line.texts[0]}, {_index(line, 2)}, {line.arg(1)})",
    addupdate=lambda line: f"jax.ref.addupdate({line.texts[0]}, {_index(line, 2)}, {line.arg(1)})",
)
