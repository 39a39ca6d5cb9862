"""Mutants that no judge can kill, or need not, each with the reason.

Keys are (function or mutant, change): the change as mutants.py words it, "" for any.
"""

SAME = "equivalent: "
HELD_ELSEWHERE = "held by another test: "

REASONS: dict[tuple[str, str], str] = {
    ("objects._users_forward", "0.0 -> 1.0"): SAME + "of a tangent that is zero only the absent slot is read",
    ("objects._users_forward:4", "and <-> or"): SAME + "None has no slot either",
    ("objects._own:2", "False -> True"): SAME
    + "the class has every method in this version of JAX, as one that refuses",
    ("foreign.rule_of_others:8", "comparison turned round"): SAME
    + "the derivative that the owner registered has the same value, by more operations",
    ("foreign.rule_of_others:10", "0 -> 1"): SAME
    + "the derivative that the owner registered has the same value, by more operations",
    ("shapes.broadcast_in_dim_vjp", "x -> out"): SAME + "a reshape to the same shape is the identity",
    ("elementwise.atan2_vjp", "x -> out"): SAME + "any scale of the size of x and y will do",
    ("elementwise.asinh_vjp:14", "x -> out"): SAME + "a shape and a dtype are read",
    ("contractions.dot_general_vjp:13", "comparison turned round"): SAME + "the operands' order is a matter of speed",
    ("budget._cost:0", "and <-> or"): SAME + "another choice of what is kept within the bytes, the same gradient",
    ("budget._cost:1", "operator"): SAME + "another choice of what is kept within the bytes, the same gradient",
    ("budget._fit:24", "comparison turned round"): SAME
    + "another choice of what is kept within the bytes, the same gradient",
    ("piecewise.abs_vjp", "x -> out"): SAME + "a dtype is read",
    ("piecewise.clamp_vjp:11", "comparison turned round"): SAME + "JAX broadcasts arrays to their own shape too",
    ("convolution.conv_general_dilated_vjp:40", "x -> out"): SAME + "where x is empty the general way gives the same",
    ("cumulative.cumprod_vjp", "0 -> 1"): SAME + "the factor beyond the end multiplies no cotangent",
    ("cumulative.cumprod_vjp", "1 -> 2"): SAME + "of the shift only its direction is read",
    ("identities.reshard_vjp", "x -> out"): SAME + "on one device x lies as out does",
    ("windows.reduce_window_sum_vjp:29", "x -> out"): SAME + "where out is empty, x_bar is 0",
    ("windows._to_the_chosen:12", "1 -> 2"): SAME + "the general way round, which gives the same, is always taken",
    ("scattering.scatter_forward:7", "0 -> 1"): SAME + "numbers are read only where one was written",
    ("windows.reduce_window_sum_vjp:15", "0 -> 1"): SAME + "widths of an array without entries",
    ("linear_algebra.lu_vjp:13", "add -> sub"): SAME + "the filling -1 for 1 enters twice",
    ("linear_algebra.lu_vjp:19", "0 -> 1"): SAME + "the first entry of the unit diagonal is not read",
    ("linear_algebra.lu_vjp:27", "True -> False"): SAME + "the diagonal that is read holds ones",
    ("linear_algebra._solve_pull_back:8", "False -> True"): SAME + "cotangents that are asked for and not used",
    ("windows._to_the_chosen:31", "0 -> 1"): SAME + "widths of 0 go the general way round, which gives the same",
    ("scattering.scatter_mul_vjp:6", "x -> out"): SAME + "of x the type is read, which is that of out",
    ("special._wide:1", "2 -> 3"): SAME + "no dtype has three bytes",
    ("special._wide:2", "0 -> 1"): SAME + "the arrays have one dtype",
    ("arithmetic.pow_vjp:44", "x -> out"): SAME + "zeros of the shape to which x is broadcast",
    ("random.random_gamma_vjp:26", "comparison turned round"): SAME
    + "below either number the limit is right to the last place",
    ("scan.scan_forward:0", "sign or negation dropped"): SAME + "compiled or not, it computes the same",
    ("while_loop._staged_while:6", "where: mask dropped"): SAME
    + "the next free row is written again before it is read",
    ("while_loop._staged_while:19", "1 -> 2"): SAME
    + "every second state is kept at first: more runs, to the same states",
    ("while_loop._while_pull_back:21", "1 -> 2"): SAME + "the first run starts one kept state earlier",
    ("while_loop._while_pull_back:27", "operator"): SAME + "the last row is reached by stretches of 2^24 steps alone",
    ("while_loop._while_pull_back:38", "2 -> 3"): SAME + "the last rows are reached by stretches of 2^24 steps alone",
    ("while_loop._while_pull_back:43", "0 -> 1"): SAME + "the rows that it fills are written before they are read",
    ("while_loop._while_pull_back:39", "1 -> 2"): SAME + "the middle, rounded up, or the entry after it",
    ("while_loop.while_forward:0", "sign or negation dropped"): SAME + "compiled or not, it computes the same",
    ("scattering._applied_bar:0", "and <-> or"): SAME + "the loop of single steps gives the same",
    ("scattering._applied_bar:29", "select: mask dropped"): SAME
    + "where a place goes no further its value is not read",
    ("scattering._applied_bar:39", "False -> True"): SAME + "cotangents that are asked for and not used",
    ("scattering._applied_bar:46", "0 -> 1"): SAME + "a function that is applied does not read the update",
    ("scattering._others:8", "1 -> 2"): SAME + "the entry before the first is replaced by 1",
    ("scattering._others:16", "1 -> 2"): SAME + "the second key, 0, 1, ..., keeps the order of a stable sort",
    ("scattering._others:26", "1 -> 2"): SAME + "any number that is no place marks what is dropped",
    ("scattering._others:31", "False -> True"): SAME + "before the first entry there is 1 to multiply with",
    ("scattering._others:32", "False -> True"): SAME + "after the last entry there is 1 to multiply with",
}


def reason(name: str, change: str) -> str | None:
    """Why the mutant may survive; None if nobody has said."""
    function = name.split(":")[0]
    return next((REASONS[key] for key in ((name, change), (function, change), (function, "")) if key in REASONS), None)
