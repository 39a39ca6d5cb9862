"""Mutants that no judge can kill, or need not, each with the reason.

Keys are (function or mutant, change): the change as mutants.py words it, "" for any.
"""

SAME = "equivalent: "
HELD_ELSEWHERE = "held by another test: "
REFUSED = "reached by a refusal alone: "

REASONS: dict[tuple[str, str], str] = {
    ("shapes.broadcast_in_dim_vjp", "x -> out"): SAME + "a reshape to the same shape is the identity",
    ("elementwise.atan2_vjp", "x -> out"): SAME + "any scale of the size of x and y will do",
    ("elementwise.atan2_vjp", "max -> min"): HELD_ELSEWHERE + "the scale matters where squares overflow: test_accuracy",
    ("piecewise.abs_vjp", "x -> out"): SAME + "a dtype is read",
    ("piecewise._winners_bar:4", "eq -> ne"): HELD_ELSEWHERE + "extrema of complex numbers: test_piecewise, by hand",
    ("piecewise.clamp_vjp:11", "comparison turned round"): SAME + "JAX broadcasts arrays to their own shape too",
    ("cumulative.cumprod_vjp", "0 -> 1"): SAME + "the factor beyond the end multiplies no cotangent",
    ("cumulative.cumprod_vjp", "1 -> 2"): SAME + "of the shift only its direction is read",
    ("reductions.reduce_prod_vjp:4", "cotangent 0 times -1"): SAME + "the cotangent of an empty array is empty",
    ("reductions.reduce_prod_vjp:5", "cotangent 0 times 2"): SAME + "the cotangent of an empty array is empty",
    ("reductions.reduce_prod_vjp:6", "cotangent 0 dropped"): SAME + "the cotangent of an empty array is empty",
    ("identities.reshard_vjp", "x -> out"): SAME + "on one device x lies as out does",
    ("identities._linear_call_pull_back", "False -> True"): SAME + "what is recorded is not pulled back",
    ("sorting.put_along", "True -> False"): SAME + "a promise that makes the scatter quicker",
    ("sorting.sort_forward:0", "comparison turned round"): SAME + "int32 or int64 numbers for short axes",
    ("sorting.sort_forward:2", "2 -> 3"): SAME + "2^31 or 3^31 entries: int32 numbers for shorter axes",
    ("sorting.sort_forward:3", "31 -> 32"): SAME + "int32 numbers for short axes",
    ("windows.reduce_window_sum_vjp:24", "x -> out"): SAME + "where out is empty, x_bar is 0",
    ("windows._to_the_chosen:10", "1 -> 2"): SAME + "the general way round, which gives the same, is always taken",
    ("scattering.scatter_forward:5", "0 -> 1"): SAME + "numbers are read only where one was written",
    ("scattering.scatter_add_vjp", "x -> out"): SAME + "of x the type is read, which is that of out",
    ("scattering.scatter_sub_vjp", "x -> out"): SAME + "of x the type is read, which is that of out",
    ("windows.reduce_window_sum_vjp:13", "0 -> 1"): SAME + "widths of an array without entries",
    ("scattering._add_vjp", "0 -> 1"): SAME + "the sign is 1 or -1",
    ("scattering.scatter_add_vjp", "1 -> 2"): SAME + "only the number's sign is read",
    ("scattering.scatter_sub_vjp", "1 -> 2"): SAME + "only the number's sign is read",
    ("linear_algebra._half", "sub: operands swapped"): SAME + "it is applied twice, and two signs cancel",
    ("linear_algebra.lu_vjp:12", "add -> sub"): SAME + "zeros are added",
    ("linear_algebra.lu_vjp:13", "add: second operand dropped"): SAME + "zeros are added",
    ("linear_algebra.lu_vjp:15", "add -> sub"): SAME + "the filling -1 for 1 enters twice",
    ("linear_algebra.lu_vjp:21", "0 -> 1"): SAME + "the first entry of the unit diagonal is not read",
    ("linear_algebra.lu_vjp:30", "True -> False"): SAME + "the diagonal that is read holds ones",
    ("linear_algebra._solve_pull_back:8", "False -> True"): SAME + "cotangents that are asked for and not used",
    ("windows._to_the_chosen:25", "0 -> 1"): SAME + "widths of 0 go the general way round, which gives the same",
    ("scattering.scatter_mul_vjp:6", "x -> out"): SAME + "of x the type is read, which is that of out",
    ("scattering.scatter_mul_vjp:14", "x -> out"): SAME + "of x the shape is read, which is that of out",
    ("scattering._others", "True -> False"): SAME + "promises that make it quicker, or a stable sort where any will do",
    ("scattering._others:4", "comparison turned round"): SAME + "int32 or int64 numbers for small arrays",
    ("scattering._others:15", "max -> min"): SAME + "int32 or int64 numbers for small arrays",
    ("special.polygamma_vjp:0", "cotangent 0 times -1"): REFUSED + "the order has no derivative",
    ("special.polygamma_vjp:1", "cotangent 0 times 2"): REFUSED + "the order has no derivative",
    ("special.polygamma_vjp:2", "cotangent 0 dropped"): REFUSED + "the order has no derivative",
    ("special.zeta_vjp", "cotangent 0 times -1"): REFUSED + "the exponent",
    ("special.zeta_vjp", "cotangent 0 times 2"): REFUSED + "the exponent",
    ("special.zeta_vjp", "cotangent 0 dropped"): REFUSED + "the exponent",
    ("special.igamma_grad_a_vjp", "cotangent 0 times -1"): REFUSED + "a second derivative with respect to a",
    ("special.igamma_grad_a_vjp", "cotangent 0 times 2"): REFUSED + "a second derivative with respect to a",
    ("special.igamma_grad_a_vjp", "cotangent 0 dropped"): REFUSED + "a second derivative with respect to a",
    ("special.regularized_incomplete_beta_vjp", "cotangent 0 times -1"): REFUSED + "a",
    ("special.regularized_incomplete_beta_vjp", "cotangent 0 times 2"): REFUSED + "a",
    ("special.regularized_incomplete_beta_vjp", "cotangent 0 dropped"): REFUSED + "a",
    ("special.regularized_incomplete_beta_vjp", "cotangent 1 times -1"): REFUSED + "b",
    ("special.regularized_incomplete_beta_vjp", "cotangent 1 times 0.5"): REFUSED + "b",
    ("special.regularized_incomplete_beta_vjp", "cotangent 1 dropped"): REFUSED + "b",
    ("special._wide:1", "2 -> 3"): SAME + "no dtype has three bytes",
    ("special._wide:2", "0 -> 1"): SAME + "the arrays have one dtype",
}


def reason(name: str, change: str) -> str | None:
    """Why the mutant may survive; None if nobody has said."""
    function = name.split(":")[0]
    return next((REASONS[key] for key in ((name, change), (function, change), (function, "")) if key in REASONS), None)
