"""The ways in which one equation's derivative can be wrong: the catalogue that simulation tries.

A Fault replaces the linear map dy/dx of an equation y = p(x) by another; a change replaces the equation itself, in a
backward pass that computes fun anew.
"""

from typing import Any

from functional_dl.check import equations
from functional_dl.check.simulation import branches, places, points
from functional_dl.check.simulation.fault import Fault

LINEAR = {
    "add", "add_any", "sub", "neg", "reshape", "transpose", "broadcast_in_dim", "reduce_sum", "convert_element_type",
    "slice", "pad", "concatenate", "gather", "select_n", "copy", "copy_p", "real", "imag", "rev", "squeeze", "cumsum",
    "conj",
    "step", "stack", "dynamic_slice", "split", "stop_gradient", "optimization_barrier", "reduce_precision", "sort",
}  # fmt: skip


def faults_of(program: equations.Listing, values: dict[Any, Any], dependent: set[int]) -> list[Fault]:
    """The faults that the equations may have which depend on the inputs."""
    found = []
    for n, site in enumerate(program.steps):
        operands = [values[i] for i in site.ins]
        if not dependent.intersection(site.ins) or not any(equations.is_floating(v) for v in operands):
            continue
        found += branches.branches(n, site, operands, dependent)
        found += places.reductions(n, site, operands)
        found += places.overwrites(n, site, operands)
        found += places.shifts(n, site, operands)
        found += places.axes(n, site, operands)
        found += places.blocks(n, site, operands)
        found += points.solves(n, site, operands, program, values)
        if site.name not in LINEAR:
            found += points.points(n, site, program, values)
            found += points.left_out(n, site, operands, dependent)
    return found
