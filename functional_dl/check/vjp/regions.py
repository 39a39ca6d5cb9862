"""Which entries of an array are meant, in words: a row, the last columns, every second index."""

import numpy as np


def name(mask: np.ndarray) -> str:
    """The marked entries in words, where they are all of some indices of one axis; else "", and where they are all."""
    found = _along(mask)
    return "" if found is None else _indices(*found, mask.ndim)


def is_end(mask: np.ndarray) -> bool:
    """Whether the marked entries are all of the first or the last indices of one axis."""
    found = _along(mask)
    if found is None:
        return False
    chosen, n, _ = found
    return bool((chosen[0] == 0 or chosen[-1] == n - 1) and chosen[-1] - chosen[0] == len(chosen) - 1)


def _along(mask: np.ndarray) -> tuple[np.ndarray, int, int] | None:
    """The indices, the length and the number of an axis, all of whose entries at those indices alone are marked."""
    if mask.ndim == 0 or mask.all() or not mask.any():
        return None
    for axis, n in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        chosen = np.flatnonzero(mask.any(others))
        if len(chosen) < n and np.take(mask, chosen, axis).all():
            return chosen, n, axis
    return None


def _indices(chosen: np.ndarray, n: int, axis: int, ndim: int) -> str:
    kind = "entry" if ndim == 1 else ("row", "column")[axis] if ndim == 2 else f"index of axis {axis}"
    one, many = (kind, {"entry": "entries"}.get(kind, f"{kind}s")) if ndim < 3 else (kind, f"indices of axis {axis}")
    first, last = int(chosen[0]), int(chosen[-1])
    if len(chosen) == 1:
        return f"{one} {first}"
    steps = np.unique(np.diff(chosen))
    if len(steps) > 1:
        return f"{many} {', '.join(map(str, chosen[:6]))}{', ...' if len(chosen) > 6 else ''}"
    if steps[0] > 1:
        return f"every {steps[0]}th of the {n} {many}, from {first} on"
    side = "last" if last == n - 1 else "first" if first == 0 else ""
    return f"{many} {first} to {last}{f' (the {side} {len(chosen)} of {n})' if side else ''}"
