"""Names, placements and other identities; programs that hold programs besides a derivative of their own, or are marked
for the compiler (attributes, scheduling groups, processors)."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import linear_call
from jax.extend.core.primitives import device_put_p, name_p, sharding_constraint_p
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from functional_dl.aliases import Array
from functional_dl.jaxprs import open_jaxpr, primitive_of
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import CALL_BAR, call, listed, own_bar
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, late_rules, vjp_rule
from functional_dl.reverse.rules import calls as calls  # remat_opt stands in the forward pass of a custom_vjp
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.values import as_array, instantiate
from functional_dl.sharding import cotangent_sharding, type_of, under_mesh

ALL = FLOATS + COMPLEX


@vjp_rule(
    name_p,
    Probe(lambda x: checkpoint_name(lax.sin(x), "sine"), dtypes=ALL),
    reads="",
    latex=("<x>", "<c>"),
    explicit=True,
)
def name_vjp(ct, out, x, **_):
    """y = x, under a name that checkpoint policies ask for  =>  x_bar = y_bar."""
    return (ct,)


def _everywhere(x):
    mesh = Mesh(np.array(jax.devices()[:1]), ("devices",))
    return lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec()))


@vjp_rule(sharding_constraint_p, Probe(_everywhere, dtypes=ALL), reads="", latex=("<x>", "<c>"), explicit=True)
def sharding_constraint_vjp(ct, out, x, **params):
    """y = x, placed on devices in a given way  =>  x_bar = y_bar, placed in the same way."""
    return (sharding_constraint_p.bind(ct, **params),)


@vjp_rule(
    device_put_p,
    Probe(lambda x: jax.device_put(lax.sin(x), jax.devices()[0]), dtypes=ALL),
    reads="",
    latex=(listed, own_bar),
    explicit=True,
)
def device_put_vjp(cts, outs, *xs, devices, srcs, copy_semantics):
    """y_i = x_i, moved to other devices  =>  x_i_bar = y_i_bar, moved back."""
    if not cts:
        return ()
    bars = device_put_p.bind(*cts, devices=srcs, srcs=devices, copy_semantics=copy_semantics)
    return tuple(bars)


_one = np.ones((1,), np.float32)


def _explicit(x):
    mesh = Mesh(np.array(jax.devices()[:1]), ("devices",), axis_types=(AxisType.Explicit,))
    return jax.sharding.reshard(lax.sin(x), NamedSharding(mesh, PartitionSpec(None)))


_MESH = AbstractMesh((1,), ("devices",), axis_types=(AxisType.Explicit,))
reshard_p = primitive_of(lambda x: jax.sharding.reshard(x, NamedSharding(_MESH, PartitionSpec(None))), _one)


@vjp_rule(
    reshard_p,
    Probe(_explicit, dtypes=("float64",), order=1, smooth=False),
    reads="",
    latex=("<x>", "<c>"),
    explicit=True,
)
def reshard_vjp(ct, out, x, **_):
    """y = x with its axes laid over the mesh in another way  =>  x_bar = y_bar, laid as x was."""
    sharding = type_of(x).sharding
    if sharding.mesh.empty:
        return (ct,)
    with under_mesh(sharding.mesh):
        return (jax.sharding.reshard(ct, cotangent_sharding(x) or sharding),)


# --- programs inside programs -----------------------------------------------------------------------------------------


def named_product(x: Array) -> Array:
    return lax.composite(lambda x: lax.mul(x, lax.sin(x)), name="example.product")(x)


composite_p = primitive_of(named_product, _one)


@call_rule(
    composite_p,
    Probe(functools.partial(named_product), order=1, forward=False),
    latex=(
        lambda t: f"\\operatorname{{{t.label.replace('_', ' ') or 'f'}}}({', '.join(t.xs)})",
        r"(\partial <y> / \partial <s>)^{\top} <c>",
    ),
)
def composite_forward(
    tape: Any, values: Any, slots: Any, *, jaxpr: Any = None, call_jaxpr: Any = None, **_: Any
) -> Any:
    """y = f(x), a named unit for the compiler  =>  x_bar = (df/dx)^T y_bar: f's equations join the caller's.
    (JAX refuses to differentiate it.)"""
    program = call_jaxpr if jaxpr is None else jaxpr  # its name depends on the version of JAX
    return tape.replay(program, values, slots)


@custom_vmap
def _mapped_sine(x):
    return lax.sin(x)


_mapped_sine.def_vmap(lambda size, batched, x: (lax.sin(x), batched[0]))


def mapped_sine(x: Array) -> Array:
    return _mapped_sine(x)


custom_vmap_p = primitive_of(mapped_sine, _one)


@call_rule(
    custom_vmap_p,
    Probe(functools.partial(mapped_sine), elementwise=True, order=1, forward=False, exact=lambda mp, x: mp.sin(x)),
    latex=(r"f(<x>)", r"(\partial f / \partial <s>)^{\top} <c>"),
)
def custom_vmap_forward(tape: Any, values: Any, slots: Any, *, call: Any, **_: Any) -> Any:
    """y = f(x), with a user's rule for batches  =>  x_bar = (df/dx)^T y_bar, equation by equation.
    (JAX's reverse mode refuses it.)
    """
    return tape.replay(call, values, slots)


def _scale(factor, x):
    return linear_call(lambda f, x: lax.mul(f, x), lambda f, ct: lax.mul(f, ct), factor, x)


def tripled(x: Array) -> Any:
    return _scale(lax.full(x.shape, 3, x.dtype), x)


linear_call_p = primitive_of(_scale, _one, _one)


@call_rule(
    linear_call_p,
    Probe(functools.partial(tripled), elementwise=True, order=1, forward=False, exact=lambda mp, x: 3 * x),
    latex=(r"A <x>", r"A^{\top} <c>"),
)
def linear_call_forward(
    tape: Any, values: Any, slots: Any, *, callee: Any, transpose_thunk: Any, num_callee_consts: Any, num_res: Any
) -> Any:
    """y = A(r) x, with the user's program for A(r)^T  =>  x_bar = A(r)^T y_bar by that program.

    r has no cotangent: the user states A's transpose, not its derivative (nor does JAX differentiate in r).
    """
    values = [v if hasattr(v, "shape") else jnp.asarray(v) for v in values]  # as a jaxpr's, not Python's numbers
    outs, _ = tape.replay(callee, values, [None] * len(values))
    fixed = num_callee_consts + num_res
    if any(s is not None for s in slots[:fixed]):
        raise NotImplementedError(
            "reverse: linear_call is differentiated in its linear operands alone; pass what depends on the "
            "differentiated inputs as jax.lax.stop_gradient(residuals), or write the function without linear_call."
        )
    pull_back = functools.partial(_linear_call_pull_back, transpose_thunk, fixed, num_callee_consts)
    return tape.call(linear_call_p, pull_back, (list(values[:fixed]), outs), slots, outs, tape.new_slots(outs))


def _linear_call_pull_back(transpose_thunk, fixed, num_callee_consts, residuals, cts):
    values, outs = residuals
    transpose, consts = transpose_thunk()
    args = [*consts, *values[num_callee_consts:], *[instantiate(ct, out) for ct, out in zip(cts, outs)]]
    bars, _ = sweep.forward_jaxpr(transpose, args, [False] * len(args))
    return [*[None] * fixed, *[None if bar is None else as_array(bar) for bar in bars]]


@jax.custom_vjp
def _rematerialised(x):
    return lax.sin(x)


_rematerialised.defvjp(lambda x: (lax.sin(x), x), lambda x, ct: (lax.mul(ct, lax.cos(x)),), optimize_remat=True)


def rematerialised_sine(x: Array) -> Array:
    return sweep.forward(lambda y: ([_rematerialised(y)], []), [x], [True])[0][0]


remat_opt_p = primitive_of(rematerialised_sine, _one)


@call_rule(
    remat_opt_p,
    Probe(functools.partial(rematerialised_sine), order=1, forward=False),
    latex=(r"f(<x>)", r"(\partial f / \partial <s>)^{\top} <c>"),
)
def remat_opt_forward(tape: Any, values: Any, slots: Any, *, fwd_jaxpr: Any, **_: Any) -> Any:
    """The forward pass of a custom_vjp, which the compiler may drop where its residuals are unused  =>  of y = fwd(x):
    x_bar = (d fwd / dx)^T y_bar, equation by equation."""
    return tape.replay(fwd_jaxpr, values, slots)


# --- calls and values that are marked for the compiler: their rules are registered once such a primitive is met


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
