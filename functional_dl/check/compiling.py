"""Compilation of programs that run a few times only: most of a check is XLA compiling them."""

from collections.abc import Callable
from typing import Any

import jax

# Machine code need not be quick for so few runs.  Other backends keep their own ways.
OPTIONS = {"cpu": {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}}
ENTRIES = 100_000  # of the arguments: beyond, the time goes into running


def jit(fun: Callable[..., Any], entries: int) -> Callable[..., Any]:
    """`jax.jit(fun)`, compiled in haste where its arguments have few entries."""
    options = OPTIONS.get(jax.default_backend()) if entries <= ENTRIES else None
    return jax.jit(fun, compiler_options=options)
