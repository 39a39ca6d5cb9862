"""Where a run's arrays live: on one device, or over a mesh, whole or split."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from functional_dl import tree
from functional_dl.aliases import Params, PyTree
from functional_dl.arguments import choice

PlacementName: TypeAlias = Literal["replicated", "fully_sharded"]
Placement: TypeAlias = PlacementName | PyTree | Callable[[str, Any], PartitionSpec]
PLACEMENTS = ("replicated", "fully_sharded")
WHOLE = PartitionSpec()


class Layout:
    """A mesh, the axes of it that split the batch, and how each array of a run is split.

    A parameter that is split along an axis that splits the batch too is made whole there before the loss sees it (an
    all-gather, whose transpose is the reduce-scatter of its gradient); along other axes the compiler splits the
    products that it stands in.
    """

    def __init__(
        self, mesh: Mesh | None, placement: Placement = "replicated", batch_axes: str | Sequence[str] | None = None
    ) -> None:
        if mesh is not None and not isinstance(mesh, Mesh):
            raise TypeError(f"mesh: expected a jax.sharding.Mesh or None, got {mesh!r} ({type(mesh).__name__})")
        if isinstance(placement, str):
            choice("placement", placement, PLACEMENTS)
        self.mesh, self._placement = mesh, placement
        if mesh is None:
            for name, value in (("placement", placement != "replicated"), ("batch_axes", batch_axes is not None)):
                if value:
                    raise ValueError(f"{name}: expected a mesh beside it, got mesh = None")
            self.batch_axes: tuple[str, ...] = ()
            return
        self._explicit = AxisType.Explicit in mesh.axis_types
        if batch_axes is not None:
            self.batch_axes = (batch_axes,) if isinstance(batch_axes, str) else tuple(batch_axes)
            self._known("batch_axes", self.batch_axes)
        elif isinstance(placement, str) or callable(placement):
            self.batch_axes = mesh.axis_names
        else:
            named = {a for spec in jax.tree.leaves(placement, is_leaf=_is_spec) if _is_spec(spec) for a in _axes(spec)}
            self.batch_axes = tuple(a for a in mesh.axis_names if a not in named)

    def __hash__(self) -> int:
        return hash((self.mesh, self._placement, self.batch_axes))  # TypeError for a pytree of specs

    def __eq__(self, other: object) -> bool:
        mine = self.mesh, self._placement, self.batch_axes
        return isinstance(other, Layout) and mine == (other.mesh, other._placement, other.batch_axes)

    @property
    def parts(self) -> int:
        """How many parts a batch is split into."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[a] for a in self.batch_axes)

    def checked_batch(self, size: int, micro_batches: int = 1) -> None:
        """Refuses a batch that the mesh does not divide."""
        if size % micro_batches:
            raise ValueError(f"batch_size: expected a multiple of micro_batches = {micro_batches}, got {size}")
        if size // micro_batches % self.parts:
            rows = f"batch_size / micro_batches = {size}/{micro_batches}" if micro_batches > 1 else str(size)
            raise ValueError(
                f"batch_size: expected a multiple of the mesh's {self.parts} devices along {self._named()}, got {rows}"
            )

    def _named(self) -> str:
        return ", ".join(map(repr, self.batch_axes))

    def _known(self, name: str, axes: Sequence[str]) -> None:
        assert self.mesh is not None
        for axis in axes:
            if axis not in self.mesh.axis_names:
                raise ValueError(f"{name}: expected axes of the mesh, {self.mesh.axis_names}, got {axis!r}")

    # ---- how each array is split ---------------------------------------------------------------------

    def specs(self, params: Params) -> PyTree:
        """A PartitionSpec for each parameter."""
        if isinstance(self._placement, str):
            return jax.tree.map(self._spec_by_shape, params)
        if callable(self._placement):
            specs = tree.map_with_name(self._placement, params)
        else:
            specs = self._placement
            wanted, given = jax.tree.structure(params), jax.tree.structure(specs, is_leaf=_is_spec)
            if wanted != given:
                raise ValueError(f"placement: expected a PartitionSpec for each of params, {wanted}, got {given}")
        for name, leaf, spec in zip(tree.path_names(params), jax.tree.leaves(params), _leaves(specs), strict=True):
            self._checked_spec(f"placement[{name}]" if name else "placement", leaf, spec)
        return specs

    def _spec_by_shape(self, leaf: Any) -> PartitionSpec:
        """Fully sharded: split along the longest axis that the mesh divides; whole where there is none."""
        axes = [a for a, n in enumerate(leaf.shape) if n and n % self.parts == 0]
        if self._placement == "replicated" or not axes or self.parts == 1:
            return WHOLE
        longest = max(axes, key=lambda a: leaf.shape[a])
        return PartitionSpec(*[None] * longest, self.batch_axes)

    def _checked_spec(self, name: str, leaf: Any, spec: Any) -> None:
        assert self.mesh is not None
        if not _is_spec(spec):
            raise TypeError(f"{name}: expected a jax.sharding.PartitionSpec, got {spec!r} ({type(spec).__name__})")
        self._known(name, _axes(spec))
        if len(spec) > len(leaf.shape):
            raise ValueError(f"{name}: expected at most {len(leaf.shape)} entries for shape {leaf.shape}, got {spec}")
        for axis, names in enumerate(spec):
            parts = math.prod(self.mesh.shape[a] for a in _names(names))
            if leaf.shape[axis] % parts:
                raise ValueError(
                    f"{name}: expected axis {axis} of shape {leaf.shape} to be a multiple of the mesh's {parts} "
                    f"devices along {names!r}, got {leaf.shape[axis]}"
                )

    def state_specs(self, state: Any) -> Any:
        """A PartitionSpec for each array of a run's state: the optimiser's copies of a parameter lie as it does."""
        rest = {name: jax.tree.map(lambda _: WHOLE, value) for name, value in state._asdict().items()}
        specs = self.specs(state.params)
        if self._placement == "fully_sharded":
            of_optimizer = jax.tree.map(self._spec_by_shape, state.opt_state)
        elif self._placement == "replicated":
            of_optimizer = rest["opt_state"]
        else:
            known = list(zip(tree.path_names(state.params), jax.tree.leaves(state.params), _leaves(specs)))
            known.sort(key=lambda one: -len(one[0]))

            def spec_of(name, leaf):
                """That of the parameter of this shape whose path the name ends with: adam's is "0/mu/" + path."""
                ends = lambda path: not path or name == path or name.endswith("/" + path)
                return next((spec for path, p, spec in known if ends(path) and p.shape == leaf.shape), WHOLE)

            of_optimizer = tree.map_with_name(spec_of, state.opt_state)
        average = None if state.average is None else specs
        return type(state)(**(rest | {"params": specs, "opt_state": of_optimizer, "average": average}))

    # ---- placing -------------------------------------------------------------------------------------

    def placed(self, x: PyTree, specs: PyTree) -> PyTree:
        """Each array laid out as its spec says; every process gives the same numbers."""
        if self.mesh is None:
            return x
        return jax.tree.map(lambda leaf, spec: self._placed(leaf, spec), x, specs)

    def _placed(self, leaf: Any, spec: PartitionSpec) -> Any:
        assert self.mesh is not None
        sharding = NamedSharding(self.mesh, spec)
        if jax.process_count() == 1 or not getattr(leaf, "is_fully_addressable", True):
            return jax.device_put(leaf, sharding)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._placed(jax.random.key_data(leaf), spec)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    def batch_sharding(self, axis: int) -> NamedSharding | None:
        """That of an array whose axis of that number runs over a batch's examples."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec(*[None] * axis, self.batch_axes))

    # ---- within a compiled step ----------------------------------------------------------------------

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which a run's programs are traced and called."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def whole(self, params: Params) -> Params:
        """The parameters, gathered along the axes that split the batch."""
        if self.mesh is None or self._placement == "replicated":
            return params
        batch = set(self.batch_axes)

        def gathered(leaf, spec):
            kept = PartitionSpec(*[tuple(a for a in _names(names) if a not in batch) or None for names in spec])
            return leaf if not batch & set(_axes(spec)) else _laid(leaf, kept)

        return jax.tree.map(gathered, params, self.specs(params))

    def kept(self, state: PyTree, specs: PyTree) -> PyTree:
        """The new state lies as the old one did."""
        if self.mesh is None:
            return state
        return jax.tree.map(_laid, state, specs)

    def freely(self, fun: Callable[..., Any], specs: Callable[..., Any]) -> Callable[..., Any]:
        """`fun`, whose operations need not say how their results lie, though the mesh's axes may be Explicit; its
        results lie as specs(*operands) says."""
        if self.mesh is None or not self._explicit:
            return fun
        return lambda *operands: jax.sharding.auto_axes(fun, out_sharding=specs(*operands))(*operands)

    def in_types(self, fun: Callable[..., Any], specs: Callable[..., Any]) -> Callable[..., Any]:
        """`fun` in the mesh's own types, if it can be traced so, else `freely`: a loss may use Explicit axes, as
        their shardings reach it in its operands' types, or know nothing of them."""
        if self.mesh is None or not self._explicit:
            return fun
        free = self.freely(fun, specs)

        def run(*operands):
            try:
                jax.eval_shape(fun, *operands)
            except Exception as error:
                try:
                    return free(*operands)
                except Exception:
                    raise error from None
            return fun(*operands)

        return run


def _laid(leaf: Any, spec: PartitionSpec) -> Any:
    """Laid out so: along the current mesh's Explicit axes in its type, along its Auto ones for the compiler."""
    mesh = jax.sharding.get_abstract_mesh()
    for kind, lay in ((AxisType.Explicit, jax.sharding.reshard), (AxisType.Auto, jax.lax.with_sharding_constraint)):
        axes = {a for a, t in zip(mesh.axis_names, mesh.axis_types) if t == kind}
        if axes:
            along = PartitionSpec(*[tuple(a for a in _names(names) if a in axes) or None for names in spec])
            leaf = lay(leaf, NamedSharding(mesh, along))
    return leaf


def mesh_of(*values: PyTree) -> Mesh | None:
    """The mesh with Explicit axes that an array among these lies on: the run's mesh where none is named."""
    for leaf in jax.tree.leaves(values):
        sharding = leaf.sharding if isinstance(leaf, jax.Array) else None
        mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
        if isinstance(mesh, Mesh) and AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)


def _leaves(specs: PyTree) -> list[Any]:
    return jax.tree.leaves(specs, is_leaf=lambda x: x is None or _is_spec(x))


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _axes(spec: PartitionSpec) -> list[str]:
    return [a for names in spec for a in _names(names)]
