"""Source of gathers, scatters and slices at places that are computed."""

from __future__ import annotations

from functional_dl.explain.source.literals import Source, plain, show
from functional_dl.explain.source.printer import Line, printers
from functional_dl.jaxprs import open_jaxpr


def _named(numbers, kind: str) -> Source:
    given = ", ".join(
        f"{name}={show(tuple(value) if isinstance(value, list) else value)}"
        for name, value in ((n, getattr(numbers, n)) for n in _fields(numbers))
        if value not in ((), [])
        or name in ("offset_dims", "collapsed_slice_dims", "start_index_map", "update_window_dims",
                    "inserted_window_dims", "scatter_dims_to_operand_dims")
    )  # fmt: skip
    return Source(f"lax.{kind}({given})")


def _fields(numbers) -> tuple[str, ...]:
    return getattr(numbers, "_fields", None) or tuple(type(numbers).__annotations__)


def _mode(p) -> Source:
    return Source(f"lax.GatherScatterMode.{p['mode'].name}")


def _gather(line: Line) -> str:
    p = line.params
    fill = p.get("fill_value")
    return line.call(
        "lax.gather",
        dimension_numbers=_named(p["dimension_numbers"], "GatherDimensionNumbers"),
        slice_sizes=tuple(p["slice_sizes"]),
        indices_are_sorted=p["indices_are_sorted"] or None,
        unique_indices=p["unique_indices"] or None,
        mode=_mode(p),
        fill_value=None if fill is None else Source(plain(fill)),
    )


def _scatter(function: str):
    def printer(line: Line) -> str:
        p = line.params
        return line.call(
            function,
            dimension_numbers=_named(p["dimension_numbers"], "ScatterDimensionNumbers"),
            indices_are_sorted=p["indices_are_sorted"] or None,
            unique_indices=p["unique_indices"] or None,
            mode=_mode(p),
        )

    return printer


def _overwrite(line: Line) -> str:
    """A scatter that writes the update there, or a function of what is there."""
    update = line.params["update_jaxpr"]
    inner = None if update is None else open_jaxpr(update)[0]
    if inner is None or inner.outvars[0] is inner.invars[1]:
        return _scatter("lax.scatter")(line)
    p, printer = line.params, line.printer
    function, own = printer.names.new("applied"), printer.names.new("z")
    block = line.block.function(f"def {function}({own}):")
    consts = [printer.hold(c, line.block) for c in p["update_consts"]]
    [result] = printer.program(inner, consts, [own, own], block)
    block.add(f"return {result}")
    numbers = _named(p["dimension_numbers"], "ScatterDimensionNumbers").text
    sizes = line.aval(2).shape
    options = f"update_shape={show(tuple(sizes))}, mode={_mode(p).text}"
    return f"lax.scatter_apply({line.arg(0)}, {line.arg(1)}, {function}, {numbers}, {options})"


def _dynamic_slice(line: Line) -> str:
    starts, more = _starts(line, 1)
    return f"lax.dynamic_slice({line.arg(0)}, {starts}, {show(tuple(line.params['slice_sizes']))}{more})"


def _dynamic_update(line: Line) -> str:
    starts, more = _starts(line, 2)
    return f"lax.dynamic_update_slice({line.arg(0)}, {line.arg(1)}, {starts}{more})"


def _starts(line: Line, first: int) -> tuple[str, str]:
    """The places, and an option where one may be negative: it is moved to 0, and does not count from behind."""
    numbers = [line.atoms[i].val if line.is_number(i) else None for i in range(first, len(line.atoms))]
    signed = any(
        line.aval(first + i).dtype.kind == "i" if number is None else number < 0 for i, number in enumerate(numbers)
    )
    return _tuple(line.args[first:]), ", allow_negative_indices=False" if signed else ""


def _tuple(args) -> str:
    return f"({args[0]},)" if len(args) == 1 else f"({', '.join(args)})"


printers(
    gather=_gather,
    dynamic_slice=_dynamic_slice,
    dynamic_update_slice=_dynamic_update,
    **{
        "scatter-add": _scatter("lax.scatter_add"),
        "scatter-sub": _scatter("lax.scatter_sub"),
        "scatter-mul": _scatter("lax.scatter_mul"),
        "scatter-min": _scatter("lax.scatter_min"),
        "scatter-max": _scatter("lax.scatter_max"),
        "scatter": _overwrite,
    },
)
