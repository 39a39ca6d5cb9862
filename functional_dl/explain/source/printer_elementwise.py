"""Source of operations entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from functional_dl.explain.source.literals import dtype_text
from functional_dl.explain.source.printer import Line, printers


def infix(symbol: str) -> Any:
    return lambda line: f"{line.bare(0)} {symbol} {line.bare(1)}"


def function(name: str) -> Any:
    return lambda line: line.call(name)


def both(name: str) -> Any:
    """A function of two operands, of which one may be a bare number."""
    return lambda line: f"{name}({line.bare(0)}, {line.bare(1)})"


def _is_float(line: Line) -> bool:
    return line.out.dtype.kind in "fc" or line.out.dtype.name.startswith(("bfloat", "float"))


def _div(line: Line) -> str:
    return f"{line.bare(0)} / {line.bare(1)}" if _is_float(line) else line.call("lax.div")


def _integer_pow(line: Line) -> str:
    n = line.params["y"]
    return f"{line.texts[0]}**{n}" if n > 1 else line.call("lax.integer_pow", y=n)


def _select(line: Line) -> str:
    if len(line.atoms) == 3 and line.aval(0).dtype == np.bool_ and line.aval(0).shape == line.out.shape:
        return f"jnp.where({line.arg(0)}, {line.bare(2)}, {line.bare(1)})"
    return line.call("lax.select_n")


def _cast(line: Line) -> str:
    if line.is_number(0):
        return f"jnp.asarray({line.arg(0)}, {dtype_text(line.params['new_dtype'])})"
    return f"lax.convert_element_type({line.arg(0)}, {dtype_text(line.params['new_dtype'])})"


def _neg(line: Line) -> str:
    return f"-{line.arg(0)}"


def _not(line: Line) -> str:
    return f"~{line.arg(0)}"


def _total(name: str) -> Any:
    """A comparison in the total order of floating numbers, for which jax.lax has no function."""

    def printer(line: Line) -> str:
        line.printer.imports.add("from jax.extend.core import primitives")
        return line.call(f"primitives.{name}_p.bind")

    return printer


SAME = (
    "sqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh", "rsqrt", "logistic", "erf", "erfc", "erf_inv", "lgamma", "digamma", "abs",
    "sign", "floor", "ceil", "is_finite",
    "bessel_i0e", "bessel_i1e", "igamma", "igammac", "igamma_grad_a", "polygamma", "zeta",
    "real", "imag", "complex", "nextafter", "pow", "atan2", "rem", "clamp", "clz", "population_count", "square",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "mulhi",
    "log2", "one_minus_square",
)  # fmt: skip
NUMPY = {"exp", "sqrt", "log", "sin", "cos", "tanh", "abs", "sign", "square", "floor", "ceil"}

printers(
    **{name: function(f"lax.{name}") for name in SAME if name not in NUMPY},
    **{name: function(f"jnp.{name}") for name in NUMPY},
    polynomial=lambda line: f"lax.polynomial({line.arg(0)}, [{', '.join(line.args[1:])}])",
    add=infix("+"),
    add_any=infix("+"),
    sub=infix("-"),
    mul=infix("*"),
    div=_div,
    neg=_neg,
    integer_pow=_integer_pow,
    max=both("jnp.maximum"),
    min=both("jnp.minimum"),
    eq=infix("=="),
    ne=infix("!="),
    lt=infix("<"),
    le=infix("<="),
    gt=infix(">"),
    ge=infix(">="),
    **{name: _total(name) for name in ("eq_to", "lt_to", "le_to")},
    select_n=_select,
    convert_element_type=_cast,
    conj=lambda line: f"jnp.conj({line.arg(0)})" if line.aval(0).dtype.kind == "c" else line.call("lax.conj"),
    round=lambda line: line.call("lax.round", rounding_method=line.params["rounding_method"]),
    reduce_precision=lambda line: line.call(
        "lax.reduce_precision", exponent_bits=line.params["exponent_bits"], mantissa_bits=line.params["mantissa_bits"]
    ),
    regularized_incomplete_beta=function("lax.betainc"),
    bitcast_convert_type=lambda line: line.call("lax.bitcast_convert_type", dtype_text(line.params["new_dtype"])),
)
printers(**{"and": infix("&"), "or": infix("|"), "xor": infix("^"), "not": _not})
