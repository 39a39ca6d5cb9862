"""Operations of a recording's entries, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl.explain import backward, flops
from functional_dl.explain.facts import count_sums, way_back
from functional_dl.explain.program import Entry
from functional_dl.explain.recording import Recording
from functional_dl.reverse.values import is_reference


class Costs:
    """Counts operations; what was counted once is found again."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def forward(self, entry: Entry) -> int:
        """Operations of an entry's equation; none where it works on references."""
        if any(is_reference(jax.typeof(x)) for x in (*entry.operands, *entry.outs) if hasattr(x, "shape")):
            return 0
        types = tuple((jnp.shape(x), str(jnp.result_type(x))) if hasattr(x, "dtype") else None for x in entry.operands)
        key: Any = (entry.primitive, types, tuple(sorted((k, repr(v)) for k, v in entry.params.items())))
        if entry.body_is_in_params:
            key = entry
        if key not in self.known:
            self.known[key] = flops.count(jax.make_jaxpr(entry.apply)(*entry.operands))
        return self.known[key]

    def backward(
        self, recording: Recording, cts: Sequence[Any], pulled: Callable[..., Any] | None = None
    ) -> dict[int, int]:
        """Operations of each entry's pullback, by its index, the sums where paths meet among them.

        The recording then holds each value's cotangent (`backward.sweep`); `pulled` is called as there.
        """
        found: dict[int, int] = {}

        def note(index, equation, out_cts, bars):
            if pulled is not None:
                pulled(index, equation, out_cts, bars)
            found[index] = found.get(index, 0) + flops.count(way_back(equation, out_cts))

        backward.sweep(recording, cts, note)
        count_sums(recording, found)
        return found
