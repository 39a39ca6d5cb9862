"""What an example is made of: a call of a public function at small inputs, and the answer, known on paper.

An example takes a `Values`, which makes its inputs as the user's settings have them: in the default float, on a mesh,
as Python's numbers, with NumPy's int64 constants.  It gives (what the library says, what is right).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


@dataclass
class Values:
    """Makes inputs.

    Fields:
      mesh: where arrays live, None for wherever JAX puts them.
      python: single numbers are Python's.
      int64: constant integers are NumPy's int64.
      given: arrays to hand out instead of new ones, in order (a jitted call's tracers); None for new ones.
      made: the arrays made so far.
    """

    mesh: Mesh | None = None
    python: bool = False
    int64: bool = False
    given: list | None = None
    made: list = field(default_factory=list)

    def array(self, numbers) -> Any:
        """An array of the default float, whole on every device."""
        return self._place(_floats(numbers), PartitionSpec())

    def batch(self, numbers) -> Any:
        """An array of the default float whose first axis is examples: on a mesh, split over it."""
        return self._place(_floats(numbers), PartitionSpec("x"))

    def number(self, value: float) -> Any:
        """A number: an array of no axes, or Python's."""
        return float(value) if self.python else self.array(value)

    def integers(self, numbers) -> Any:
        """Constant integers, for indices and labels."""
        if self.int64:
            return np.asarray(numbers, np.int64)
        return self._place(jnp.array(np.asarray(numbers, np.int32)), PartitionSpec())

    def key(self, seed: int = 0) -> Any:
        return jax.random.key(seed)

    def _place(self, x, spec):
        if self.given is not None:
            self.made.append(x)
            return self.given[len(self.made) - 1]
        if self.mesh is not None:
            x = jax.device_put(x, NamedSharding(self.mesh, spec if x.ndim else PartitionSpec()))
        self.made.append(x)
        return x


def _floats(numbers) -> jax.Array:
    """An array of the default float, for which nothing is compiled."""
    return jnp.array(np.asarray(numbers, jax.dtypes.canonicalize_dtype(float)))


@dataclass(frozen=True)
class Example:
    """A call of a public function.

    Fields:
      run: Values -> (answer, right answer), pytrees of one structure.
      tolerance: relative and absolute, in float32 and in float64, where the default (1e-5, 1e-11) is too much to ask.
      heavy: seconds to compile; run under each setting only in the campaign.
    """

    run: Callable[[Values], tuple[Any, Any]]
    tolerance: tuple[float, float] = (1e-5, 1e-11)
    heavy: bool = False


def differences(answer, right, tolerance: tuple[float, float]) -> list[str]:
    """What is wrong with an answer; nothing if it is right."""
    answers, tree = jax.tree.flatten(answer)
    rights, right_tree = jax.tree.flatten(right)
    if tree != right_tree:
        return [f"structure {tree}, expected {right_tree}"]
    found = []
    for i, (ours, theirs) in enumerate(zip(answers, rights)):
        if isinstance(theirs, str | bool | np.bool_ | type(None)):
            if not bool(np.all(np.asarray(ours) == theirs)):
                found.append(f"leaf {i}: {ours}, expected {theirs}")
            continue
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        size = tolerance[0] if ours.dtype in (np.float32, np.complex64) else tolerance[1]
        if ours.shape != theirs.shape:
            found.append(f"leaf {i}: shape {ours.shape}, expected {theirs.shape}")
        elif not np.allclose(ours, theirs, rtol=size, atol=size):
            found.append(f"leaf {i}: {ours}, expected {theirs} to {size:g}")
    return found
