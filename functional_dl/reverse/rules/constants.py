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

from functional_dl.reverse.rule import zero_derivative

zero_derivative("the user asks for it: the value counts as a constant", stop_gradient_p)
zero_derivative(
    "the output is a truth value: it has no tangent space",
    eq_p, ne_p, lt_p, le_p, gt_p, ge_p, eq_to_p, lt_to_p, le_to_p, is_finite_p,
)  # fmt: skip
zero_derivative("the output is a position, an integer: it has no tangent space", argmax_p, argmin_p)
zero_derivative(
    "a map of integers or truth values: they have no tangent space",
    and_p, or_p, xor_p, not_p, shift_left_p, shift_right_arithmetic_p, shift_right_logical_p,
    population_count_p, clz_p, reduce_and_p, reduce_or_p, reduce_xor_p,
)  # fmt: skip
zero_derivative("a constant: it has no operands", iota_p)
