"""Where a value lives, as its type says it.

On a mesh with Explicit axes (jax.make_mesh's default) types carry shardings, and a product that sums over a split axis
must be told how its result is laid out.  On a mesh with Manual axes (inside jax.shard_map) a type says over which of
them the value varies.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import AbstractValue
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = [
    "broadcast_like",
    "cotangent_sharding",
    "cotangent_spec",
    "cotangent_type",
    "equation_context",
    "full",
    "is_on_mesh",
    "laid_along",
    "laid_as",
    "laid_beside",
    "laid_out_freely",
    "mesh_of",
    "on_mesh_of",
    "permuted",
    "row_type",
    "sharding_like",
    "sharding_of",
    "stack_type",
    "summed_axes",
    "type_of",
    "under_mesh",
    "unravelled",
    "varying_axes",
    "without_explicit_axes",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def type_of(x: Any) -> Any:
    """The type of a value; a type is its own."""
    return x if isinstance(x, AbstractValue) else jax.typeof(x)


def is_on_mesh(aval: Any) -> bool:
    """Whether a type says anything of a mesh."""
    sharding = getattr(aval, "sharding", None)
    return sharding is not None and not sharding.mesh.empty


def sharding_of(x: Any) -> NamedSharding | None:
    """The sharding in the type of x, which may be a type; None where types carry none: without a mesh of Explicit
    axes, and within `without_explicit_axes`."""
    sharding = getattr(type_of(x), "sharding", None)
    if sharding is None or sharding.mesh.empty or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    current = jax.sharding.get_abstract_mesh()
    return sharding if current.empty or AxisType.Explicit in current.axis_types else None


def sharding_like(x: Any, *operands: Any) -> NamedSharding | None:
    """How a result that stands for x (its cotangent, its update) is laid out: as x, or where x is on no mesh and an
    operand is, whole on each of that mesh's devices."""
    found = sharding_of(x)
    for operand in operands:
        elsewhere = sharding_of(operand)
        if found is None and elsewhere is not None:
            found = NamedSharding(elsewhere.mesh, PartitionSpec(*[None] * len(type_of(x).shape)))
    return found


def cotangent_sharding(x: Any, *operands: Any) -> NamedSharding | None:
    """How the cotangent of x, a value or a type, is laid out: see `sharding_like`."""
    found = sharding_like(x, *operands)
    return None if found is None else _of_cotangent(found)


def cotangent_type(aval: Any) -> Any:
    """The type of the cotangents of values of this floating type."""
    if not is_on_mesh(aval):
        return aval
    sums = summed_axes(aval)
    if sums:
        sums = {"reduced": sums.get("unreduced", frozenset()), "unreduced": sums.get("reduced", frozenset())}
        aval = aval.update(manual_axis_type=aval.mat.update(**sums))
    sharding = sharding_of(aval)
    return aval if sharding is None else aval.update(sharding=_of_cotangent(sharding))


def _with_axes(sharding, partitions, **sums):
    """The sharding with other axes; the mesh axes over which summands are held stay, if none are named."""
    spec = sharding.spec
    sums = sums or {"unreduced": spec.unreduced, "reduced": spec.reduced}
    return sharding.update(spec=PartitionSpec(*partitions, **sums))


def permuted(sharding: NamedSharding | None, axes: Sequence[int]) -> NamedSharding | None:
    """The sharding of an array whose axes are these of an array that is laid out so."""
    return None if sharding is None else _with_axes(sharding, [sharding.spec.partitions[i] for i in axes])


def unravelled(sharding: NamedSharding | None, rank: int) -> NamedSharding | None:
    """The sharding of an array that is laid out so, whose first axis, which is not split, is made into `rank` ones."""
    return None if sharding is None else _with_axes(sharding, [*[None] * rank, *sharding.spec.partitions[1:]])


def stack_type(aval: Any, length: int) -> Any:
    """The type of so many values of this type, side by side along a new first axis, which is not split."""
    sharding = aval.sharding
    sharding = None if sharding.mesh.empty else _with_axes(sharding, [None, *sharding.spec.partitions])
    return aval.update(shape=(length, *aval.shape), sharding=sharding)


def row_type(aval: Any) -> Any:
    """The type of x[0], of that of x."""
    sharding = aval.sharding
    sharding = None if sharding.mesh.empty else _with_axes(sharding, sharding.spec.partitions[1:])
    return aval.update(shape=aval.shape[1:], sharding=sharding)


def varying_axes(aval: Any) -> tuple[Any, ...]:
    """The Manual axes over which values of this type differ, where shard_map keeps account of it."""
    found = aval.mat.varying if hasattr(aval, "mat") else getattr(aval, "vma", ())
    return tuple(a for a in aval.sharding.mesh.axis_names if a in found) if found else ()


def summed_axes(aval: Any) -> dict[str, frozenset[Any]]:
    """The Manual axes over which values of this type are held as summands ("unreduced"), and those over which each
    device holds the whole and the cotangent is held as summands ("reduced"); only those that there are."""
    kinds = {kind: getattr(getattr(aval, "mat", None), kind, frozenset()) for kind in ("unreduced", "reduced")}
    return {kind: axes for kind, axes in kinds.items() if axes}


def full(aval: Any, value: Any, dtype: Any = None) -> Any:
    """An array of one number, of this type's shape, laid out as the type says.  Of a weak type it has that."""
    if dtype is None and getattr(aval, "weak_type", False) and not is_on_mesh(aval):
        number = aval.dtype.type(value).item()
        if jax.typeof(number).dtype == aval.dtype:
            return lax.full(aval.shape, number)
    dtype = aval.dtype if dtype is None else dtype
    if not is_on_mesh(aval):
        return lax.full(aval.shape, value, dtype)
    x = _varying(lax.full(aval.shape, value, dtype, sharding=sharding_of(aval)), varying_axes(aval))
    for kind, axes in summed_axes(aval).items():
        axes = tuple(a for a in aval.sharding.mesh.axis_names if a in axes)
        x = lax.pcast(_varying(x, axes) if kind == "unreduced" else x, axes, to=kind)
    return x


def laid_as(x: Any, aval: Any) -> Any:
    """x, laid out as the cotangent of a value of this type is."""
    own, sharding = jax.typeof(x), sharding_of(aval)
    if sharding is not None:
        sharding = _of_cotangent(sharding)
        if own.sharding != sharding:
            x = jax.sharding.reshard(x, sharding)
    return _varying(x, [a for a in varying_axes(aval) if a not in varying_axes(own)])


def on_mesh_of(x: Any, other: Any) -> Any:
    """x, on the mesh that `other`, of its shape, is on, and laid out in the same way, if it is on another one."""
    own, wanted = type_of(x), type_of(other)
    if not is_on_mesh(wanted) or own.sharding.mesh == wanted.sharding.mesh:
        return x
    return jax.sharding.reshard(x, wanted.sharding)


def laid_along(x: Any, like: Any) -> Any:
    """x, laid out as the first axes of `like` are, which its axes stand for: a mask or a length for each example."""
    sharding = sharding_of(like)
    if sharding is not None:
        x = jax.sharding.reshard(x, sharding.update(spec=PartitionSpec(*sharding.spec[: x.ndim])))
    differs = varying_axes(type_of(like))  # over axes of jax.shard_map
    return _varying(x, [a for a in differs if a not in varying_axes(type_of(x))]) if differs else x


def broadcast_like(x: Any, like: Any) -> Any:
    """x broadcast to the shape of `like` and laid out as it is: its cotangent is summed on each device, then over them,
    where that of a whole array would be gathered first."""
    return jnp.broadcast_to(x, like.shape, out_sharding=sharding_of(like))


def laid_beside(x: Any, like: Any, whole: Sequence[int]) -> Any:
    """x, laid out as `like`, whose axes mean the same, as far as lengths permit; the axes `whole` are not split."""
    sharding = sharding_of(like)
    if sharding is None:
        return x
    spec = list(sharding.spec.partitions)
    for axis, names in enumerate(spec):
        parts = math.prod(sharding.mesh.shape[a] for a in _names(names))
        if x.shape[axis] % parts or axis - len(spec) in whole:
            spec[axis] = None
    return jax.sharding.reshard(x, sharding.update(spec=PartitionSpec(*spec)))


def _names(names):
    return (names,) if isinstance(names, str) else tuple(names or ())


def _of_cotangent(sharding):
    """A value of which each device holds the whole has a cotangent of which each holds a summand, and conversely."""
    spec = sharding.spec
    if not (spec.unreduced or spec.reduced):
        return sharding
    return _with_axes(sharding, spec.partitions, unreduced=spec.reduced, reduced=spec.unreduced)


def cotangent_spec(spec: PartitionSpec) -> PartitionSpec:
    """The spec of the cotangent of a value of this spec; that of a user's own type says it itself."""
    if not isinstance(spec, PartitionSpec):
        return spec.to_ct_spec()
    return PartitionSpec(*spec.partitions, unreduced=spec.reduced, reduced=spec.unreduced)


def _varying(x, axes):
    return lax.pcast(x, tuple(axes), to="varying") if axes else x


def mesh_of(values: Sequence[Any]) -> Any:
    """The mesh that the first of these values or types to be on one is on: with its devices, where a value tells them;
    None where there is none."""
    for x in values:
        aval = type_of(x)
        if is_on_mesh(aval):
            place = x.sharding if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) else aval.sharding
            return place.mesh if isinstance(place, NamedSharding) else aval.sharding.mesh
    return None


@contextlib.contextmanager
def under_mesh(mesh: Any) -> Iterator[None]:
    """With this mesh as the current one: constants that are made are laid out on it."""
    abstract = mesh.abstract_mesh
    current = jax.sharding.get_abstract_mesh()
    if current == abstract:
        yield
        return
    context = None
    if isinstance(mesh, Mesh) and current.empty:
        with contextlib.suppress(ValueError):  # it is for outside of all transformations
            context = jax.set_mesh(mesh)
    with context or jax.sharding.use_abstract_mesh(abstract):
        yield


def without_explicit_axes(fun: Any, values: Any) -> Any:
    """fun(values) with the mesh's Explicit axes as Auto ones: the compiler chooses how what it computes is laid out.

    Values are arrays, numbers and types in a pytree; types say nothing of a mesh there.  The results are laid out by
    the caller: see `laid_as`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    mesh = mesh.update_axis_types({a: AxisType.Auto for a in mesh.axis_names if _is_explicit(mesh, a)})
    whole = NamedSharding(mesh, PartitionSpec())

    def enter(x):
        arrives = isinstance(x, (jax.Array, np.ndarray)) and x.dtype != jax.float0
        return jax.sharding.reshard(x, whole) if arrives else x

    token = _chosen.set(mesh)
    try:
        with jax.sharding.use_abstract_mesh(mesh):
            return fun(jax.tree.map(enter, values))
    finally:
        _chosen.reset(token)


# The mesh of `without_explicit_axes`, within it.
_chosen: ContextVar[AbstractMesh | None] = ContextVar("chosen", default=None)


def equation_context(manager: Any) -> Any:
    """The context of an equation in its program, `manager`; within `without_explicit_axes` on that one's mesh."""
    mesh = _chosen.get()
    return manager if mesh is None else _both(manager, jax.sharding.use_abstract_mesh(mesh))


@contextlib.contextmanager
def _both(outer, inner):
    with outer, inner:
        yield


def laid_out_freely(fun: Any, bound: Any, values: Sequence[Any]) -> Any:
    """fun, whose results stand for those of bound(*values), so that it runs on a mesh with Explicit axes: the compiler
    chooses how what it computes is laid out, its results lie as bound's.  Off such a mesh it is fun."""
    if all(sharding_of(x) is None for x in values):
        return fun
    mesh, types = mesh_of(values), jax.eval_shape(bound, *values)

    def run(*operands):
        with under_mesh(mesh):
            outs = without_explicit_axes(lambda operands: fun(*operands), operands)
            return [jax.sharding.reshard(y, aval.sharding) for y, aval in zip(outs, types)]

    return run


def _is_explicit(mesh, axis):
    return mesh.axis_types[mesh.axis_names.index(axis)] == AxisType.Explicit
