"""Data parallelism: each device differentiates its part of the batch, the parameters are the same on all."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from functional_dl.aliases import Array, PyTree


class Layout:
    """Where a run's arrays live: all on one device (no mesh), or spread over a mesh.

    The data set is copied to every device and each takes its own rows from it, so a step has one kind of
    communication: the all-reduce of the gradient, which XLA inserts.
    """

    replicated: None

    def __init__(self, mesh: Mesh | None, batch_size: int) -> None:
        if mesh is None:
            self.replicated = self._batch = None
            return
        if not isinstance(mesh, Mesh):
            raise TypeError(f"mesh: expected a jax.sharding.Mesh or None, got {mesh!r} ({type(mesh).__name__})")
        if batch_size % mesh.size:
            raise ValueError(f"batch_size: expected a multiple of the mesh's {mesh.size} devices, got {batch_size}")
        # jax.make_mesh gives Explicit axes, in which every operation of the user's loss would need a
        # sharding; Auto axes leave that to XLA
        mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self._batch = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def replicate(self, tree: PyTree) -> PyTree:
        """A copy of every leaf on every device."""
        return tree if self.replicated is None else jax.device_put(tree, self.replicated)

    def split(self, indices: Array) -> Array:
        """Within a compiled step: each device gets its share of the batch."""
        if self._batch is None:
            return indices
        return jax.lax.with_sharding_constraint(indices, self._batch)

    def keep(self, state: PyTree) -> PyTree:
        """Within a compiled step: the state stays a full copy on every device."""
        return state if self.replicated is None else jax.lax.with_sharding_constraint(state, self.replicated)
