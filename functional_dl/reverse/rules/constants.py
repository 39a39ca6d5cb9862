"""Primitives with derivative zero: comparisons, logic, positions, counters, and the stop sign."""

from jax.extend.core.primitives import (
    and_p,
    argmax_p,
    argmin_p,
    clz_p,
    eq_p,
    eq_to_p,
    ge_p,
    gt_p,
    iota_p,
    is_finite_p,
    le_p,
    le_to_p,
    lt_p,
    lt_to_p,
    ne_p,
    not_p,
    or_p,
    population_count_p,
    reduce_and_p,
    reduce_or_p,
    reduce_xor_p,
    shift_left_p,
    shift_right_arithmetic_p,
    shift_right_logical_p,
    stop_gradient_p,
    xor_p,
)

from functional_dl.reverse.latex import along_axes
from functional_dl.reverse.rule import zero_derivative

zero_derivative(
    "the user asks for it: the value counts as a constant", latex={stop_gradient_p: r"\operatorname{constant}(<x>)"}
)
zero_derivative(
    "the output is a truth value: it has no tangent space",
    eq_to_p,
    lt_to_p,
    le_to_p,
    latex={
        eq_p: "[<0> = <1>]",
        ne_p: r"[<0> \ne <1>]",
        lt_p: "[<0> < <1>]",
        le_p: r"[<0> \le <1>]",
        gt_p: "[<0> > <1>]",
        ge_p: r"[<0> \ge <1>]",
        is_finite_p: r"[\,|<x>| < \infty\,]",
    },
)
zero_derivative(
    "the output is a position, an integer: it has no tangent space",
    latex={argmax_p: along_axes(r"\operatorname{arg\,max}"), argmin_p: along_axes(r"\operatorname{arg\,min}")},
)
zero_derivative(
    "a map of integers or truth values: they have no tangent space",
    and_p, or_p, xor_p, not_p, shift_left_p, shift_right_arithmetic_p, shift_right_logical_p,
    population_count_p, clz_p, reduce_and_p, reduce_or_p, reduce_xor_p,
)  # fmt: skip
zero_derivative("a constant: it has no operands", latex={iota_p: r"(0, 1, 2, \dots)"})
