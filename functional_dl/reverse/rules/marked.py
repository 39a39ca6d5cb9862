"""Calls and values that are marked for the compiler: attributes, scheduling groups, processors, equal shardings.

The modules that make them are experimental parts of JAX: their rules are registered once such a primitive is met.
"""

import json
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax

from functional_dl.jaxprs import open_jaxpr, primitive_of
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import CALL_BAR, call, listed, own_bar
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, late_rules, vjp_rule
from functional_dl.reverse.sweep import call_rule

ALL = FLOATS + COMPLEX


@dataclass(frozen=True)
class Marked:
    """A function as one call that carries frontend attributes: (name, value) of each."""

    attributes: tuple[tuple[str, Any], ...]

    def __call__(self, fun: Any) -> Any:
        from jax.experimental.scheduling_groups import xla_metadata_call

        return xla_metadata_call(jax.jit(fun), **dict(self.attributes))  # jit finds a trace again, this call does not


@late_rules("xla_metadata_call")
def register_calls() -> None:
    from jax.experimental.scheduling_groups import xla_metadata_call

    sine = xla_metadata_call(lambda x: lax.sin(x), inlineable="false")
    call_p = primitive_of(sine, np.float32(1))

    @call_rule(
        call_p,
        Probe(lambda x: sine(x), elementwise=True, exact=lambda mp, x: mp.sin(x)),
        latex=(call, CALL_BAR),
    )
    def metadata_call_forward(tape: Any, values: Any, slots: Any, *, jaxpr: Any, **attributes: Any) -> Any:
        """y = f(x), one call with attributes for the compiler  =>  x_bar = (df/dx)^T y_bar, one call with the same."""
        inner, consts = open_jaxpr(jaxpr)
        values, slots = [*consts, *values], [*[None] * len(consts), *slots]
        attributes = dict(attributes.get("xla_metadata", attributes))  # from JAX 0.12 on they are one parameter
        unit = Marked(tuple(sorted(attributes.items())))
        return sweep.compiled_call(tape, call_p, sweep.replay, values, slots, unit, jaxpr=inner)


def placed_call() -> Any:
    """JAX's function compute_on2, which from JAX 0.12 on is called compute_on."""
    from jax.experimental import compute_on

    return getattr(compute_on, "compute_on2", compute_on.compute_on)


@dataclass(frozen=True)
class Placed:
    """A function as one call that runs on a processor; `options` are the compiler's.

    Attributes:
      spaces: the memory of all results; or, of a pair of a list and another tree, of each in the list and of the tree.
    """

    processor: str
    options: str | None
    spaces: Any

    def __call__(self, fun: Any) -> Any:
        options = None if self.options is None else json.loads(self.options)
        spaces = (list(self.spaces[0]), self.spaces[1]) if isinstance(self.spaces, tuple) else self.spaces
        return placed_call()(
            jax.jit(fun), compute_type=self.processor, out_memory_spaces=spaces, compiler_options=options
        )


@late_rules("compute_on")
def register_processors() -> None:
    device = jax.memory.Space.Device
    sine = placed_call()(lambda x: lax.sin(x), compute_type="device_host", out_memory_spaces=device)
    compute_on_p = primitive_of(sine, np.float32(1))

    @call_rule(
        compute_on_p,
        Probe(lambda x: sine(x), elementwise=True, exact=lambda mp, x: mp.sin(x)),
        latex=(call, CALL_BAR),
    )
    def compute_on_forward(
        tape: Any,
        values: Any,
        slots: Any,
        *,
        jaxpr: Any,
        compute_type: str,
        out_memory_spaces: Any,
        compiler_options_json: str | None,
    ) -> Any:
        """y = f(x) on a processor  =>  x_bar = (df/dx)^T y_bar, on the same."""
        inner, consts = open_jaxpr(jaxpr)
        values, slots = [*consts, *values], [*[None] * len(consts), *slots]
        forward, backward = (
            Placed(compute_type, compiler_options_json, spaces) for spaces in ((out_memory_spaces, device), device)
        )
        return sweep.compiled_call(tape, compute_on_p, sweep.replay, values, slots, forward, backward, jaxpr=inner)


@late_rules("shard_alike")
def register_shardings() -> None:
    from jax.experimental.shard_alike import shard_alike

    shard_alike_p = primitive_of(shard_alike, np.float32(1), np.float32(1))

    @vjp_rule(
        shard_alike_p,
        Probe(lambda x, y: shard_alike(x, y), shapes=((3,), (3,)), dtypes=ALL),
        reads="",
        latex=(listed, own_bar),
        explicit=True,
    )
    def shard_alike_vjp(cts, outs, x, y, **_):
        """(u, v) = (x, y), laid over devices alike  =>  (x_bar, y_bar) = (u_bar, v_bar), laid alike."""
        return shard_alike(*cts)
