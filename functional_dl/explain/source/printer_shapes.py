"""Source of what reshapes, broadcasts, joins and cuts."""

from __future__ import annotations

from functional_dl.explain.source.literals import dtype_text, plain, show
from functional_dl.explain.source.printer import Line, printers


def _broadcast(line: Line) -> str:
    shape, dims = line.out.shape, tuple(line.params["broadcast_dimensions"])
    if not line.aval(0).shape:
        if line.is_number(0):
            value = plain(line.atoms[0].val)
            if value in ("0", "0.0", "False"):
                return f"jnp.zeros({show(shape)}, {dtype_text(line.out.dtype)})"
            if value in ("1", "1.0", "True"):
                return f"jnp.ones({show(shape)}, {dtype_text(line.out.dtype)})"
            return f"jnp.full({show(shape)}, {value}, {dtype_text(line.out.dtype)})"
        return f"jnp.broadcast_to({line.arg(0)}, {show(shape)})"
    inside = line.aval(0).shape
    if all(inside[i] == shape[d] for i, d in enumerate(dims)) and all(
        shape[d] == 1 for d in range(len(shape)) if d not in dims
    ):
        index = ", ".join(":" if d in dims else "None" for d in range(len(shape)))
        return f"{line.arg(0)}[{index}]"
    if dims == tuple(range(len(shape) - len(dims), len(shape))):
        return f"jnp.broadcast_to({line.arg(0)}, {show(shape)})"
    return line.call("lax.broadcast_in_dim", show(shape), show(dims))


def _transpose(line: Line) -> str:
    order = tuple(line.params["permutation"])
    return f"{line.arg(0)}.T" if order == (1, 0) else line.call("jnp.transpose", show(order))


def _reshape(line: Line) -> str:
    if line.params.get("dimensions") is not None and line.eqn.primitive.name == "reshape":
        return line.call("lax.reshape", show(tuple(line.out.shape)), dimensions=tuple(line.params["dimensions"]))
    return f"{line.arg(0)}.reshape({show(tuple(line.out.shape))})"


def _slice(line: Line) -> str:
    p = line.params
    strides = p["strides"] or (1,) * len(p["start_indices"])
    parts = []
    for size, low, high, stride in zip(line.aval(0).shape, p["start_indices"], p["limit_indices"], strides):
        first = str(low) if low else ""
        last = str(high) if high != size else ""
        parts.append(f"{first}:{last}" + (f":{stride}" if stride != 1 else ""))
    return f"{line.arg(0)}[{', '.join(parts)}]"


def _iota(line: Line) -> str:
    p = line.params
    if len(p["shape"]) == 1:
        return f"jnp.arange({p['shape'][0]}, dtype={dtype_text(p['dtype'])})"
    return f"lax.broadcasted_iota({dtype_text(p['dtype'])}, {show(tuple(p['shape']))}, {p['dimension']})"


def _barrier(line: Line) -> str:
    return f"lax.optimization_barrier({_tuple(line.args)})"


def _tuple(args) -> str:
    return f"({args[0]},)" if len(args) == 1 else f"({', '.join(args)})"


printers(
    broadcast_in_dim=_broadcast,
    transpose=_transpose,
    reshape=_reshape,
    squeeze=_reshape,
    expand_dims=_reshape,
    slice=_slice,
    iota=_iota,
    concatenate=lambda line: f"jnp.concatenate([{', '.join(line.args)}], axis={line.params['dimension']})",
    stack=lambda line: f"jnp.stack([{', '.join(line.args)}], axis={line.params['axis']})",
    unstack=lambda line: f"jnp.unstack({line.arg(0)}, axis={line.params['axis']})",
    split=lambda line: line.call("lax.split", sizes=tuple(line.params["sizes"]), axis=line.params["axis"]),
    pad=lambda line: line.call("lax.pad", show(tuple(line.params["padding_config"]))),
    rev=lambda line: line.call("lax.rev", show(tuple(line.params["dimensions"]))),
    tile=lambda line: line.call("jnp.tile", show(tuple(line.params["reps"]))),
    optimization_barrier=_barrier,
    empty=lambda line: f"jnp.empty({show(tuple(line.out.shape))}, {dtype_text(line.out.dtype)})",
)
printers(empty2=lambda line: f"jnp.empty({show(tuple(line.out.shape))}, {dtype_text(line.out.dtype)})")
