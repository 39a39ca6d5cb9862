"""Programs on many devices: shard_map, and the collectives inside it.

A collective is a linear map of the values of all devices together; its rule is that map's transpose.  In the types that
shard_map checks, a value either varies over a mesh axis or is the same on it, and sums over the axis are made explicit:
`pvary` copies an equal value to all devices, `psum_invariant` sums a varying one to an equal one; each is the
other's transpose.  Without the checks a value's copies share its cotangent, and `psum` is its own transpose.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import AbstractValue, Tracer
from jax.extend.core import Primitive
from jax.extend.core.primitives import (
    all_gather_p,
    all_to_all_p,
    axis_index_p,
    pmax_p,
    pmin_p,
    ppermute_p,
    psum_p,
    ragged_all_to_all_p,
)
from jax.sharding import AbstractMesh, AxisType, PartitionSpec
from jax.tree_util import register_pytree_node_class, tree_flatten, tree_unflatten

from functional_dl.aliases import Array
from functional_dl.jaxprs import equations, interpret, open_jaxpr, primitive_of
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import CALL_BAR, call
from functional_dl.reverse.rule import Probe, unsupported, vjp_rule, zero_derivative
from functional_dl.reverse.rules.reductions import expand
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.values import instantiate, is_users_type
from functional_dl.sharding import cotangent_spec, summed_axes, varying_axes

AXIS = "devices"
_MESH = AbstractMesh((1,), (AXIS,), axis_types=(AxisType.Auto,))


def inside(body: Callable[..., Any], check_vma: bool = True) -> Primitive:
    """The primitive that body applies last, inside shard_map."""
    mapped = jax.shard_map(
        lambda x: (body(x), x)[1],
        mesh=_MESH,
        in_specs=PartitionSpec(AXIS),
        out_specs=PartitionSpec(AXIS),
        check_vma=check_vma,
    )
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):  # whatever mesh the user is on
        closed = jax.make_jaxpr(mapped)(jax.ShapeDtypeStruct((1,), np.float32))
    return equations(equations(closed)[0].params["jaxpr"])[-1].primitive


shard_map_p = primitive_of(
    jax.shard_map(lambda x: x, mesh=_MESH, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS)),
    jax.ShapeDtypeStruct((1,), np.float32),
)
pvary_p = inside(lambda x: lax.pcast(lax.full((1,), np.float32(0)), AXIS, to="varying"))
psum_invariant_p = inside(lambda x: lax.psum(x, AXIS))
reduce_scatter_p = inside(lambda x: lax.psum_scatter(x, AXIS, tiled=True))
all_gather_invariant_p = inside(lambda x: lax.all_gather(x, AXIS, tiled=True, to="invarying"))


SPLIT = PartitionSpec(AXIS)


def on_devices(body: Callable[..., Any], out: Any = SPLIT, check_vma: bool = True) -> Callable[..., Any]:
    """body on up to 4 shards of arrays whose first axis has length 4: the probes' programs."""

    def program(*arrays):
        count = min(4, jax.device_count())
        mesh = jax.sharding.Mesh(np.array(jax.devices()[: 4 if count == 4 else 1]), (AXIS,))
        specs = tuple(PartitionSpec(AXIS) if x.ndim == 2 else PartitionSpec() for x in arrays)
        return jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=out, check_vma=check_vma)(*arrays)

    return program


@call_rule(
    shard_map_p,
    Probe(on_devices(lambda x: lax.sin(lax.mul(x, x))), shapes=((4, 2),), dtypes=("float64", "float32")),
    Probe(
        on_devices(lambda x, w: lax.sin(lax.mul(x, lax.broadcast(w, (x.shape[0],))))),
        shapes=((4, 2), (2,)),
        dtypes=("float64",),
    ),
    Probe(
        on_devices(lambda x, w: lax.psum(lax.dot(lax.sin(x), w), AXIS), PartitionSpec()),
        shapes=((4, 2), (2,)),
        dtypes=("float64",),
    ),
    Probe(
        on_devices(lambda x, w: lax.psum(lax.dot(lax.sin(x), w), AXIS), PartitionSpec(), check_vma=False),
        shapes=((4, 2), (2,)),
        dtypes=("float64",),
    ),
    latex=(call, CALL_BAR + r" \quad \text{on each device}"),
)
def shard_map_forward(tape: Any, values: Any, slots: Any, *, subfuns: Any = None, **params: Any) -> Any:
    """y = f of each device's shards, joined  =>  x_bar = the pullback of f at each device's shards of y_bar, joined.

    Residuals stay on their device.  Of an input that all devices share, x_bar is the sum over the devices: inside, by
    the transpose of the copying (pvary); with unchecked types, by a sum over the axes that its spec leaves out, and
    there y_bar of an output that all devices share is divided among them.
    """
    if subfuns is None:  # it stands in a jaxpr
        return _record_shards(tape, values, slots, params)
    store = {}

    def staged(*args):
        store["tree"] = shard_map_p.bind(*args, subfuns=subfuns, **params)
        return list(store["tree"])

    closed = jax.make_jaxpr(staged)(*values)
    [eqn] = [e for e in equations(closed) if e.primitive is shard_map_p]
    jaxpr, consts = open_jaxpr(closed)
    known = dict(zip(jaxpr.invars, zip(values, slots)))
    known |= dict(zip(jaxpr.constvars, zip(*tape.trace.lower(consts))))  # what f closes over
    operands = [known.get(v, (getattr(v, "val", None), None)) for v in eqn.invars]
    if all(slot is None for _, slot in operands):
        outs = shard_map_p.bind(*values, subfuns=subfuns, **params)
        return outs, [None] * len(list(outs))
    outs, out_slots = _record_shards(tape, [v for v, _ in operands], [s for _, s in operands], eqn.params)
    return store["tree"].update(outs), out_slots


def _record_shards(tape, values, slots, params, again=None):
    present = [not isinstance(v, AbstractValue) for v in values]
    active = tuple(s is not None for s in slots)
    shards = _Shards(params, active, again, present, _axes_of_vmap(values))
    values = [v for v, p in zip(values, present) if p]
    outs, residuals = shards.forward(values if again is None else [*values, *again.kept.values])
    if again is not None:
        rest = iter(outs)
        outs = [next(rest) if w else aval for w, aval in zip(again.wanted, again.types)]
    pull_back = functools.partial(_shard_pull_back, shards)
    return tape.call(shard_map_p, pull_back, residuals, slots, outs, tape.new_slots(outs))


@register_pytree_node_class
class Kept:
    """What the devices keep of a shard_map's program; static, of which kind each value is."""

    def __init__(self, values: Any, kinds: tuple[Any, ...] = ((), (), None)) -> None:
        self.values = values
        self.specs, self.scalars, self.tree = self.kinds = kinds

    def tree_flatten(self) -> tuple[Any, Any]:
        return (self.values,), self.kinds

    @classmethod
    def tree_unflatten(cls, kinds: Any, children: Any) -> "Kept":
        return cls(children[0], kinds)


class Again(NamedTuple):
    """How a shard_map is computed again.

    Attributes:
      step: `step(kept, tape, eqn, values, slots)` records an equation; what was kept is in the iterator `kept`.
      kept: what the devices kept.
      wanted: which outputs are computed; of the others the type stands in.
      types: of all outputs.
    """

    step: Callable[..., Any]
    kept: Kept
    wanted: Sequence[bool]
    types: Sequence[Any]


def shards_keeping(operands: Any, step: Callable[..., Any], params: Any) -> tuple[list[Any], Kept]:
    """A shard_map's outputs, and what its devices keep.

    Args:
      step: `step(kept)(eqn, operands)` applies an equation; what it keeps it appends to `kept`.
    """
    shards, trees = _Shards(params, (), mapped=_axes_of_vmap(operands)), []

    def run(*args):
        kept: list = []
        outs = interpret(shards.jaxpr, args, step(kept))
        leaves, tree = tree_flatten(kept)
        trees[:] = [tree]
        return outs, shards.own(leaves, args, outs)

    outs, kept = shards.returned(run, operands)
    return outs, Kept(kept, (tuple(shards.residual_specs), tuple(shards.scalars), *trees))


def shards_again(tape: Any, values: Any, slots: Any, params: Any, again: Again) -> tuple[list[Any], list[Any]]:
    """Records a shard_map that is computed again."""
    return _record_shards(tape, values, slots, params, again)


def _axes_of_vmap(values):
    """The mesh axes along which a surrounding vmap(..., spmd_axis_name=) splits: inside no array may name them."""
    names: set[str] = set()
    for trace in {id(v._trace): v._trace for v in values if isinstance(v, Tracer)}.values():
        while trace is not None:
            found = getattr(getattr(trace, "axis_data", None), "spmd_name", None) or ()
            names.update([found] if isinstance(found, str) else found)
            trace = getattr(trace, "parent_trace", None)
    return frozenset(names)


def _is_scalar(x):
    return getattr(jax.typeof(x), "shape", None) == ()


def _shard_pull_back(shards, residuals, cts):
    return shards.backward(residuals, cts)


class _Shards:
    """The forward and the backward program of one shard_map.  A residual that is an input or an output is
    not returned besides."""

    def __init__(
        self,
        params: Any,
        active: Any,
        again: Again | None = None,
        present: Sequence[bool] | None = None,
        mapped: frozenset[str] = frozenset(),
    ) -> None:
        self.jaxpr = params["jaxpr"]
        self.in_specs, self.out_specs = tuple(params["in_specs"]), tuple(params["out_specs"])
        self.again, self.present = again, [True] * len(self.in_specs) if present is None else list(present)
        # what the forward program takes and returns: of one that is computed again not all, but what was kept, too
        self.taken_specs, self.made_specs = self.in_specs, self.out_specs
        if again is not None:
            taken = [spec for spec, p in zip(self.in_specs, self.present) if p]
            self.taken_specs = (*taken, *again.kept.specs)
            self.made_specs = tuple(spec for spec, w in zip(self.out_specs, again.wanted) if w)
        self.mesh, self.check_vma = params["mesh"], params["check_vma"]
        self.manual = params["newly_manual_axes"]
        self.axes = tuple(a for a in self.mesh.axis_names if a in self.manual and a not in mapped)
        self.active = active
        self.residual_tree, self.residual_specs, self.scalars = None, [], []
        self.places: list[int | None] = []  # for each residual, which of the inputs and outputs it is

    def map(self, fun: Callable[..., Any], in_specs: Any, out_specs: Any) -> Any:
        mapped = jax.shard_map(
            fun,
            mesh=self.mesh,
            in_specs=in_specs,
            out_specs=out_specs,
            check_vma=self.check_vma,
            axis_names=set(self.manual),
        )
        specs = jax.tree.leaves((in_specs, out_specs), is_leaf=lambda s: isinstance(s, PartitionSpec))
        plain = all(isinstance(spec, PartitionSpec) for spec in specs)
        return mapped if plain else jax.jit(mapped)  # JAX takes specs of users' types in compiled programs alone

    def run(self, *args: Any) -> Any:
        outs, pull = self.recorded(args)
        residuals, self.residual_tree = tree_flatten(pull)
        return outs, self.own(residuals, args, outs)

    def own(self, residuals: Any, args: Any, outs: Any) -> Any:
        """Of the residuals those that are returned besides the outputs; notes where the others are."""
        specs = [*self.taken_specs, *self.made_specs]
        places = {
            id(x): i
            for i, (x, spec) in reversed([*enumerate(zip([*args, *outs], specs))])
            if i < len(args) or self.check_vma or not self.left_out(spec)  # else devices may hold other values
        }
        self.places = [places.get(id(r)) for r in residuals]
        self.residual_specs = [self.spec(r) if i is None else specs[i] for r, i in zip(residuals, self.places)]
        self.scalars = [i is None and _is_scalar(r) for r, i in zip(residuals, self.places)]
        own = [(r, scalar) for r, i, scalar in zip(residuals, self.places, self.scalars) if i is None]
        return [lax.broadcast(r, (1,)) if scalar else r for r, scalar in own]

    def recorded(self, args: Any) -> Any:
        if self.again is None:
            return sweep.forward_jaxpr(self.jaxpr, args, self.active, numbers=True)
        step, kept, wanted, _ = self.again
        given, rest = iter(args[: sum(self.present)]), args[sum(self.present) :]
        values = [next(given) if p else v.aval for p, v in zip(self.present, open_jaxpr(self.jaxpr)[0].invars)]
        found = [lax.squeeze(x, (0,)) if scalar else x for x, scalar in zip(rest, kept.scalars)]
        found = iter([] if kept.tree is None else tree_unflatten(kept.tree, found))
        again = functools.partial(step, found)
        outs, pull = sweep.forward_jaxpr(self.jaxpr, values, self.active, again, numbers=True)
        return [y for y, w in zip(outs, wanted) if w], pull

    def spec(self, residual: Any) -> Any:
        """Where a residual differs between devices, its shards are stacked along the first axis."""
        axes = self.axes
        if is_users_type(jax.typeof(residual)):  # it says so itself
            return jax.typeof(residual).nospec(self.mesh, self.check_vma, axes)
        sums = {}
        if self.check_vma:
            aval = jax.typeof(residual)
            axes = tuple(a for a in self.mesh.axis_names if a in varying_axes(aval))
            sums = summed_axes(aval)
        return PartitionSpec(axes, **sums) if axes else PartitionSpec(**sums)

    def forward(self, values: Any) -> Any:
        return self.returned(self.run, values)

    def returned(self, run: Callable[..., Any], values: Any) -> Any:
        """The outputs and the residuals of `run`, which returns the outputs and the others of the residuals."""
        jax.eval_shape(self.map(lambda *args: run(*args) and (), self.taken_specs, ()), *values)
        specs = [spec for spec, i in zip(self.residual_specs, self.places) if i is None]
        outs, own = self.map(run, self.taken_specs, (list(self.made_specs), specs))(*values)
        rest, given = iter(own), [*values, *outs]
        return outs, [next(rest) if i is None else given[i] for i in self.places]

    def left_out(self, spec: Any) -> Any:
        """The axes over which a cotangent of this spec is the same."""
        named = {a for part in spec.partitions for a in (part if isinstance(part, tuple) else (part,))}
        return tuple(a for a in self.axes if a not in named | spec.unreduced)

    def backward(self, residuals: Any, cts: Any) -> Any:
        present = tuple(i for i, ct in enumerate(cts) if ct is not None)
        wanted = [i for i, a in enumerate(self.active) if a]
        out_specs = [cotangent_spec(spec) for spec in self.out_specs]
        in_specs = [cotangent_spec(spec) for spec in self.in_specs]

        def pull(residuals, cts):
            residuals = [lax.squeeze(r, (0,)) if scalar else r for r, scalar in zip(residuals, self.scalars)]
            all_cts: list = [None] * len(self.out_specs)
            for i, ct in zip(present, cts):
                all_cts[i] = ct if self.check_vma else self.share(ct, self.left_out(out_specs[i]))
            bars = tree_unflatten(self.residual_tree, residuals)(all_cts)
            bars = [instantiate(bars[i], open_jaxpr(self.jaxpr)[0].invars[i].aval) for i in wanted]
            if self.check_vma:
                return bars
            return [
                lax.psum(bar, axes) if (axes := self.left_out(in_specs[i])) else bar for i, bar in zip(wanted, bars)
            ]

        specs = (list(self.residual_specs), [out_specs[i] for i in present])
        mapped = self.map(pull, specs, [in_specs[i] for i in wanted])
        bars = iter(mapped(list(residuals), [cts[i] for i in present]))
        return [next(bars) if a else None for a in self.active]

    def share(self, ct: Array, axes: Any) -> Any:
        count = int(np.prod([self.mesh.shape[a] for a in axes]))
        return ct if count == 1 else lax.div(ct, ct.dtype.type(count))


def _collective(body, **kwargs):
    return Probe(on_devices(body, **kwargs), shapes=((4, 4),), dtypes=("float64",))


def _sum_of_rows_and_devices(x):
    """Of a row each, whose axis becomes one of the array's."""
    return jax.vmap(lambda row: lax.psum(lax.sin(row), ("rows", AXIS)), axis_name="rows")(lax.concatenate([x, x], 0))


@vjp_rule(
    psum_p,
    _collective(lambda x: lax.psum(lax.sin(x), AXIS), out=PartitionSpec(), check_vma=False),
    _collective(_sum_of_rows_and_devices, out=PartitionSpec(), check_vma=False),
    reads="",
    latex=(r"\textstyle\sum_{\text{devices}} <x>", r"\textstyle\sum_{\text{devices}} <c>"),
    explicit=True,
)
def psum_vjp(ct, out, x, *, axes, **params):
    """y = sum of x over the devices, which all get it; unchecked types count y's copies one by one  =>
    x_bar = the sum of the copies' y_bar.  Of array axes (numbers) it is an ordinary sum, repeated back."""
    named = tuple(a for a in axes if not isinstance(a, int))
    summed = tuple(a for a in axes if isinstance(a, int))
    ct = expand(ct, x, summed) if summed else ct
    return (psum_p.bind(ct, axes=named, **params),)


@vjp_rule(
    psum_invariant_p,
    _collective(lambda x: lax.psum(lax.sin(x), AXIS), out=PartitionSpec()),
    reads="",
    latex=(r"\textstyle\sum_{\text{devices}} <x>", "<c>"),
    explicit=True,
)
def psum_invariant_vjp(ct, out, x, *, axes, **_):
    """y = sum of x over the devices, one value  =>  x_bar = y_bar on every device."""
    return (pvary_p.bind(ct, axes=axes),)


@vjp_rule(
    pvary_p,
    Probe(on_devices(lambda x, w: lax.mul(x, lax.broadcast(w, (x.shape[0],)))), shapes=((4, 2), (2,))),
    reads="",
    latex=("<x>", r"\textstyle\sum_{\text{devices}} <c>"),
    explicit=True,
)
def pvary_vjp(ct, out, x, *, axes, **_):
    """y = x, one value, copied to every device  =>  x_bar = sum of y_bar over the devices."""
    return (psum_invariant_p.bind(ct, axes=axes),)


@vjp_rule(
    ppermute_p,
    _collective(
        lambda x: lax.ppermute(x, AXIS, [(i, (i + 1) % lax.axis_size(AXIS)) for i in range(lax.axis_size(AXIS))])
    ),
    reads="",
    latex=(r"<x>_{\pi(\text{device})}", r"<c>_{\pi^{-1}(\text{device})}"),
    explicit=True,
)
def ppermute_vjp(ct, out, x, *, perm, axis_name, **_):
    """Device j gets x of device i for each (i, j), else 0  =>  device i gets y_bar of device j."""
    return (lax.ppermute(ct, axis_name, [(j, i) for i, j in perm]),)


@vjp_rule(
    all_gather_p,
    _collective(lambda x: lax.mul(lax.sin(lax.all_gather(x, AXIS, tiled=True)), lax.all_gather(x, AXIS, tiled=True))),
    _collective(lambda x: lax.all_gather(x, AXIS, axis=1)),
    reads="",
    latex=(r"(<x>_d)_{d}", r"\textstyle\sum_{\text{devices}} <c>[\text{own part}]"),
    explicit=True,
)
def all_gather_vjp(ct, out, x, *, all_gather_dimension, axis_name, axis_index_groups=None, tiled, **_):
    """Every device gets all x, joined  =>  device i gets the sum over the devices of the i-th part of y_bar."""
    bar = lax.psum_scatter(
        ct, axis_name, scatter_dimension=all_gather_dimension, axis_index_groups=axis_index_groups, tiled=tiled
    )
    return (bar,)


@vjp_rule(
    reduce_scatter_p,
    _collective(lambda x: lax.psum_scatter(lax.sin(x), AXIS, scatter_dimension=1, tiled=True)),
    reads="",
    latex=(r"\textstyle\sum_{\text{devices}} <x> [\text{own part}]", r"(<c>_d)_{d}"),
    explicit=True,
)
def reduce_scatter_vjp(ct, out, x, *, scatter_dimension, axis_name, axis_index_groups=None, tiled, **_):
    """Device i gets the i-th part of the sum of x over the devices  =>  every device gets all y_bar, joined."""
    bar = lax.all_gather(ct, axis_name, axis=scatter_dimension, axis_index_groups=axis_index_groups, tiled=tiled)
    return (bar,)


@vjp_rule(
    all_gather_invariant_p,
    _collective(
        lambda x: lax.sin(lax.all_gather(lax.sin(x), AXIS, tiled=True, to="invarying")), out=PartitionSpec(None, None)
    ),
    reads="",
    latex=(r"(<x>_d)_{d}", r"<c>[\text{own part}]"),
    explicit=True,
)
def all_gather_invariant_vjp(ct, out, x, *, all_gather_dimension, axis_name, tiled, **_):
    """y = all x, joined, one value  =>  device i gets the i-th part of y_bar."""
    size = x.shape[all_gather_dimension] if tiled else 1
    bar = lax.dynamic_slice_in_dim(ct, lax.axis_index(axis_name) * size, size, all_gather_dimension)
    return (bar if tiled else lax.squeeze(bar, [all_gather_dimension]),)


@vjp_rule(
    all_to_all_p,
    _collective(lambda x: lax.all_to_all(x, AXIS, split_axis=1, concat_axis=0, tiled=True)),
    reads="",
    latex=(r"\operatorname{alltoall}(<x>)", r"\operatorname{alltoall}^{-1}(<c>)"),
    explicit=True,
)
def all_to_all_vjp(ct, out, x, *, axis_name, split_axis, concat_axis, axis_index_groups=None, tiled, **_):
    """y: part j of device i becomes part i of device j  =>  x_bar is y_bar exchanged back, the axes' roles swapped."""
    bar = lax.all_to_all(ct, axis_name, concat_axis, split_axis, axis_index_groups=axis_index_groups, tiled=tiled)
    return (bar,)


zero_derivative("the number of the device, an integer: it has no tangent space", axis_index_p)
unsupported(
    "JAX has no derivative of it either.  Gather the values (jax.lax.all_gather) and take jnp.max or jnp.min of them; "
    "or, where it only stabilises (as in a softmax), wrap it in jax.lax.stop_gradient.",
    pmax_p,
    pmin_p,
)
unsupported("Exchange equal parts by jax.lax.all_to_all, which has a derivative.", ragged_all_to_all_p)
