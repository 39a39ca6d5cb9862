"""Windows that slide over the axes of space: their sizes, steps and padding.  No layers here."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from functional_dl.arguments import choice, described, integer

PaddingName: TypeAlias = Literal["same", "valid", "causal"]
Padding: TypeAlias = PaddingName | int | Sequence[tuple[int, int]]
PADDINGS = ("same", "valid", "causal")


def per_axis(name: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One positive integer an axis; a single one holds for all axes."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != rank:
            raise ValueError(f"{name}: expected one integer for each of {rank} axes of space, got {tuple(value)}")
        return tuple(integer(f"{name}[{i}]", v) for i, v in enumerate(value))
    return (integer(name, value),) * rank


def window_of(window: int | Sequence[int]) -> tuple[int, ...]:
    """The window's sizes, of 1 to 3 axes of space; a single integer is one axis."""
    sizes = tuple(window) if isinstance(window, Sequence) else (window,)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"window: expected sizes of 1 to 3 axes of space, got {described(window)}")
    return tuple(integer(f"window[{i}]", size) for i, size in enumerate(sizes))


def pads(
    padding: Padding, sizes: Sequence[int], extent: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """(low, high) of each axis, for inputs of these sizes and windows of this extent (dilation included).

    "same" gives outputs of ceil(size / stride), what is odd going to the high end; "causal" pads the low end, so that
    no output sees a later input.
    """
    if isinstance(padding, str):
        choice("padding", padding, PADDINGS)
        if padding == "valid":
            return ((0, 0),) * len(extent)
        if padding == "causal":
            return tuple((w - 1, 0) for w in extent)
        totals = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(sizes, extent, stride)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, Sequence):
        if len(padding) != len(extent) or any(not isinstance(p, Sequence) or len(p) != 2 for p in padding):
            raise ValueError(f"padding: expected a pair (low, high) for each of {len(extent)} axes, got {padding!r}")
        return tuple((integer("padding", low, 0), integer("padding", high, 0)) for low, high in padding)
    p = integer("padding", padding, 0)
    return ((p, p),) * len(extent)


def check_fits(name: str, sizes: Sequence[int], extent: Sequence[int], padded: Sequence[tuple[int, int]]) -> None:
    """Every window must find its place.

    Raises:
      ValueError: an axis, padding included, is shorter than the window.
    """
    for i, (n, w, (low, high)) in enumerate(zip(sizes, extent, padded)):
        if n + low + high < w:
            raise ValueError(
                f"{name}: expected axis {i} of space to be at least {w - low - high} long for a window of {w}, got {n}"
            )
