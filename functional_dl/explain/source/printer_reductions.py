"""Source of reductions, cumulative operations, windows, sorting."""

from __future__ import annotations

from typing import Any

from functional_dl.explain.source.literals import Source, dtype_text, show, typed
from functional_dl.explain.source.printer import Line, printers


def _axis(line: Line) -> str:
    axes = tuple(line.params["axes"])
    if len(axes) == len(line.aval(0).shape):
        return ""
    return f", axis={axes[0] if len(axes) == 1 else show(axes)}"


def _fold(numpy: str, lax: str):
    def printer(line: Line) -> str:
        if line.aval(0).dtype.name in ("float32", "float64", "complex64", "complex128"):
            return f"jnp.{numpy}({line.arg(0)}{_axis(line)})"
        return line.call(f"lax.{lax}", axes=tuple(line.params["axes"]))

    return printer


def _extreme(name: str):
    return lambda line: f"jnp.{name}({line.arg(0)}{_axis(line)})"


def _place(name: str):
    return lambda line: line.call(
        f"lax.{name}", axis=line.params["axes"][0], index_dtype=Source(dtype_text(line.params["index_dtype"]))
    )


def _cumulative(name: str):
    return lambda line: line.call(f"lax.{name}", axis=line.params["axis"], reverse=line.params["reverse"] or None)


def _window(operation: str, start: str):
    def printer(line: Line) -> str:
        p = line.params
        dtype = line.out.dtype
        value = {"0": typed(0, dtype), "-": _lowest(dtype), "+": _highest(dtype)}[start]
        return line.call("lax.reduce_window", value, operation, **_geometry(p), **_dilations(p))

    return printer


def _geometry(p) -> dict[Any, Any]:
    return {
        "window_dimensions": tuple(p["window_dimensions"]),
        "window_strides": tuple(p["window_strides"]),
        "padding": tuple(tuple(pair) for pair in p["padding"]),
    }


def _dilations(p) -> dict[Any, Any]:
    names = ("base_dilation", "window_dilation")
    return {name: tuple(p[name]) for name in names if any(d != 1 for d in p[name])}


def _lowest(dtype) -> str:
    return typed(float("-inf"), dtype) if dtype.kind not in "iu" else f"jnp.iinfo({dtype_text(dtype)}).min"


def _highest(dtype) -> str:
    return typed(float("inf"), dtype) if dtype.kind not in "iu" else f"jnp.iinfo({dtype_text(dtype)}).max"


def _bound(name: str):
    """For primitives that jax.lax has no function for: the primitive itself."""

    def printer(line: Line) -> str:
        line.printer.imports.add("from jax.extend.core import primitives")
        p = line.params
        options: dict = _geometry(p)
        if "base_dilation" in p:
            options |= {"base_dilation": tuple(p["base_dilation"]), "window_dilation": tuple(p["window_dilation"])}
        options["select_prim"] = Source(f"primitives.{p['select_prim'].name}_p")
        return line.call(f"primitives.{name}_p.bind", **options)

    return printer


def _sort(line: Line) -> str:
    p = line.params
    args = ", ".join(line.args)
    return (
        f"lax.sort(({args},), dimension={p['dimension']}, is_stable={p['is_stable']}, num_keys={p['num_keys']})"
        if len(line.atoms) == 1
        else f"lax.sort(({args}), dimension={p['dimension']}, is_stable={p['is_stable']}, num_keys={p['num_keys']})"
    )


def _approx(line: Line) -> str:
    p = line.params
    name = "approx_max_k" if p["is_max_k"] else "approx_min_k"
    return line.call(
        f"lax.{name}",
        k=p["k"],
        reduction_dimension=p["reduction_dimension"],
        recall_target=float(p["recall_target"]),
        reduction_input_size_override=p["reduction_input_size_override"],
        aggregate_to_topk=p["aggregate_to_topk"],
    )


printers(
    reduce_sum=_fold("sum", "reduce_sum"),
    reduce_prod=_fold("prod", "reduce_prod"),
    reduce_max=_extreme("max"),
    reduce_min=_extreme("min"),
    reduce_and=_extreme("all"),
    reduce_or=_extreme("any"),
    argmax=_place("argmax"),
    argmin=_place("argmin"),
    cumsum=_cumulative("cumsum"),
    cumprod=_cumulative("cumprod"),
    cummax=_cumulative("cummax"),
    cummin=_cumulative("cummin"),
    cumlogsumexp=_cumulative("cumlogsumexp"),
    reduce_window_sum=_window("lax.add", "0"),
    reduce_window_max=_window("lax.max", "-"),
    reduce_window_min=_window("lax.min", "+"),
    select_and_scatter_add=_bound("select_and_scatter_add"),
    select_and_gather_add=_bound("select_and_gather_add"),
    sort=_sort,
    top_k=lambda line: line.call("lax.top_k", k=line.params["k"], axis=line.params["axis"]),
    approx_top_k=_approx,
)
