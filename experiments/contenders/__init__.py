"""The networks of `experiments.throughput`, trained as users of several frameworks write it.

A contender is a function of (task, batch_size, steps) that returns `train`; `train()` takes the steps from the start
and returns their losses.  All train the same networks on the same data with Adam at 1e-3.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

FIT, OWN, FLAX, TORCH = "fit", "loop, own layers", "loop, Flax", "loop, PyTorch"


def build(contender: str, task: str, batch_size: int, steps: int) -> Callable[[], Any]:
    """The contender's `train`; its framework is imported here."""
    if contender == TORCH:
        from experiments.contenders import torch_loop

        return torch_loop.build(task, batch_size, steps)
    from experiments.contenders import jax_loops

    return jax_loops.build(contender, task, batch_size, steps)


def installed() -> list[str]:
    """The contenders whose frameworks are there."""
    needs = {FIT: None, OWN: None, FLAX: "flax", TORCH: "torch"}
    return [name for name, module in needs.items() if module is None or importlib.util.find_spec(module)]
