"""Values in jax.shard_map that every device holds whole (reduced), or of which each holds a summand (unreduced).

They are each other's cotangents: where every device uses the whole of x, each has a summand of x_bar, and these need
not be added up before their sum is used.

The rules are registered once such a primitive is met: JAX neither maps these primitives nor, on a mesh with Auto axes,
applies them outside of jit, as the judges of the other rules do.
"""

import jax
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from functional_dl.reverse.rule import Probe, late_rules, vjp_rule
from functional_dl.reverse.rules.parallel import AXIS, inside, on_devices


def _gathered(x):
    """Summands of x's square on each device, added up on the device that holds the part."""
    whole = lax.all_gather(lax.sin(x), AXIS, tiled=True, to="reduced")
    summand = lax.mul(lax.pcast(whole, AXIS, to="varying"), lax.exp(lax.all_gather(x, AXIS, tiled=True)))
    return lax.psum_scatter(lax.pcast(summand, AXIS, to="unreduced"), AXIS, tiled=True)


def _shared(x, w):
    """A weight that every device holds, whose cotangent is left as summands."""
    w = lax.pcast(lax.pcast(lax.sin(w), AXIS, to="reduced"), AXIS, to="varying")
    return lax.psum(lax.pcast(lax.dot(lax.sin(x), w), AXIS, to="unreduced"), AXIS)


@late_rules("all_gather_reduced", "unreduced_", "preduced", "reduced_vary_cast", "vary_unreduced_cast")
def register() -> None:
    all_gather_reduced_p = inside(lambda x: lax.all_gather(x, AXIS, tiled=True, to="reduced"))
    reduced_vary_cast_p = inside(
        lambda x: lax.pcast(lax.all_gather(x, AXIS, tiled=True, to="reduced"), AXIS, to="varying")
    )
    vary_unreduced_cast_p = inside(lambda x: lax.pcast(x, AXIS, to="unreduced"))
    unreduced_reduce_scatter_p = inside(
        lambda x: lax.psum_scatter(lax.pcast(x, AXIS, to="unreduced"), AXIS, tiled=True)
    )
    unreduced_psum_p = inside(lambda x: lax.psum(lax.pcast(x, AXIS, to="unreduced"), AXIS))
    preduced_p = inside(lambda x: lax.pcast(lax.full((1,), np.float32(0)), AXIS, to="reduced"))
    gathered = Probe(jax.jit(on_devices(_gathered)), shapes=((4, 4),), dtypes=("float64",))
    shared = Probe(jax.jit(on_devices(_shared, PartitionSpec())), shapes=((4, 2), (2,)), dtypes=("float64",))

    @vjp_rule(
        all_gather_reduced_p,
        gathered,
        reads="",
        latex=(r"(<x>_d)_{d}", r"\textstyle\sum_{\text{devices}} <c>[\text{own part}]"),
        explicit=True,
    )
    def all_gather_reduced_vjp(ct, out, x, *, all_gather_dimension, axis_name, axis_size, tiled):
        """Every device holds all x, joined  =>  device i gets the i-th part of the sum of the summands y_bar."""
        params = {"scatter_dimension": all_gather_dimension, "axis_name": axis_name, "axis_size": axis_size}
        return (unreduced_reduce_scatter_p.bind(ct, tiled=tiled, **params),)

    @vjp_rule(
        unreduced_reduce_scatter_p,
        gathered,
        reads="",
        latex=(r"\textstyle\sum_{\text{devices}} <x> [\text{own part}]", r"(<c>_d)_{d}"),
        explicit=True,
    )
    def unreduced_reduce_scatter_vjp(ct, out, x, *, scatter_dimension, axis_name, axis_size, tiled):
        """Device i gets the i-th part of the sum of the summands x  =>  every device holds all y_bar, joined."""
        params = {"all_gather_dimension": scatter_dimension, "axis_name": axis_name, "axis_size": axis_size}
        return (all_gather_reduced_p.bind(ct, tiled=tiled, **params),)

    @vjp_rule(
        reduced_vary_cast_p,
        gathered,
        shared,
        reads="",
        latex=("<x>", r"<c> \text{ as a summand}"),
        explicit=True,
    )
    def reduced_vary_cast_vjp(ct, out, x, *, axes):
        """y = x, which every device holds, as one value for each  =>  x_bar is the sum of the y_bar, which are its
        summands: nothing is added yet."""
        return (vary_unreduced_cast_p.bind(ct, axes=axes),)

    @vjp_rule(
        vary_unreduced_cast_p,
        gathered,
        shared,
        reads="",
        latex=(r"<x> \text{ as a summand}", "<c>"),
        explicit=True,
    )
    def vary_unreduced_cast_vjp(ct, out, x, *, axes):
        """y is the sum of all x, not added up yet  =>  x_bar = y_bar, which every device holds."""
        return (reduced_vary_cast_p.bind(ct, axes=axes),)

    @vjp_rule(
        unreduced_psum_p,
        shared,
        reads="",
        latex=(r"\textstyle\sum_{\text{devices}} <x>", "<c>"),
        explicit=True,
    )
    def unreduced_psum_vjp(ct, out, x, *, axes):
        """y = the sum of the summands x, one value  =>  x_bar = y_bar, which every device holds."""
        return (preduced_p.bind(ct, axes=axes),)

    @vjp_rule(
        preduced_p,
        shared,
        reads="",
        latex=("<x>", r"\textstyle\sum_{\text{devices}} <c>"),
        explicit=True,
    )
    def preduced_vjp(ct, out, x, *, axes):
        """y = x, one value, whose cotangent y_bar comes as summands  =>  x_bar = their sum."""
        return (unreduced_psum_p.bind(ct, axes=axes),)
