"""Arrays in a few numbers."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from functional_dl.explain.explanation import Summary
from functional_dl.reverse.values import is_reference

FEW = 8  # entries: of no more the numbers themselves are shown


def summarise(value: Any) -> Summary | None:
    """Norm, range, mean and the count of non-finite entries; None for what holds no numbers."""
    if is_reference(jax.typeof(value)):
        return None
    try:
        array = np.asarray(value)
    except TypeError:  # keys of random numbers
        return None
    if array.dtype.kind not in "fciub" and array.dtype.name not in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return None
    wide = np.abs(array) if array.dtype.kind == "c" else array
    wide = wide.astype(np.float64).ravel()
    finite, bad = wide[np.isfinite(wide)], wide[~np.isfinite(wide)]
    counts = {"-inf": bad == -np.inf, "inf": bad == np.inf, "nan": np.isnan(bad)}
    special = ", ".join(f"{int(found.sum())} of {name}" for name, found in counts.items() if found.any())
    if not finite.size:
        return Summary(0.0, 0.0, 0.0, int(bad.size), 0.0, special)
    return Summary(
        float(np.sqrt(np.square(finite).sum())),
        float(finite.min()),
        float(finite.max()),
        int(bad.size),
        float(finite.mean()),
        special,
    )


def text(value: Any) -> str:
    """The numbers of a small array, "" for a large one."""
    if is_reference(jax.typeof(value)):
        return ""
    try:
        array = np.asarray(value)
    except TypeError:
        return ""
    if array.size > FEW or array.dtype.kind not in "fciub":
        return ""
    return np.array2string(array, precision=6, separator=", ", threshold=FEW).replace("\n", "")
