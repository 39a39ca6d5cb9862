"""An elementwise factor that depends on the data is left out."""

from collections.abc import Iterator

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis, mask_values

SPREAD = 0.05  # relative: a factor that varies less is a scale


def test(evidence: Evidence) -> Hypothesis | None:
    """expected = q actual with q made of a primal or an output, or one factor for each row that all trials share."""
    if evidence.x.size < 2 or not all(np.isfinite(a).all() for a in evidence.actual):
        return None
    for what, q in _quantities(evidence):
        with np.errstate(all="ignore"):
            factor = np.broadcast_to(q, evidence.shape)
            if not np.isfinite(factor).all() or np.ptp(np.abs(factor)) <= SPREAD * np.max(np.abs(factor)):
                continue
            if not evidence.explains([np.where(factor != 0, e / np.where(factor != 0, factor, 1), a)
                                      for e, a in zip(evidence.expected, evidence.actual)]):  # fmt: skip
                continue
        if mask_values(factor):
            return Hypothesis("mask_missing", "a mask at hand", f"The cotangent is not multiplied by the mask {what}.")
        if what.startswith("1 /"):
            held = what.removeprefix("1 / ")
            return Hypothesis(
                "wrong_point", "a power at hand", f"The cotangent holds the factor {held} once too often."
            )
        # a power of x alone may be the slope of another function
        power = evidence.elementwise and not what.startswith("args")
        return Hypothesis(
            "missing_factor",
            "a power at hand" if power else "a factor at hand",
            f"The cotangent lacks the factor {what}.",
        )
    axes = _rows(evidence)
    if axes:
        return Hypothesis(
            "missing_factor",
            "a factor a row",
            f"The cotangent is the right one but for a factor that differs from row to row (it does not change along "
            f"axis {', '.join(map(str, axes))}) and is the same for every incoming cotangent.",
        )
    return None


def _quantities(evidence) -> Iterator[tuple[str, np.ndarray]]:
    """Quantities at hand that broadcast to the argument's shape."""
    function = evidence.function
    values = [(function.paths[i], x) for i, x in zip(function.active, function.wide_point)]
    values += [("the output" if len(evidence.outs) == 1 else f"output {n}", y) for n, y in enumerate(evidence.outs)]
    for name, value in values:
        if value.size < 2 or value.size > evidence.x.size:
            continue
        for shaped in _shaped(value, evidence.shape):
            with np.errstate(all="ignore"):
                yield name, shaped
                yield f"1 / {name}", 1 / shaped
                yield f"exp({name})", np.exp(shaped)
                yield f"{name}^2", shaped**2
                yield f"1 / {name}^2", 1 / shaped**2
                yield f"1 - {name}^2", 1 - shaped**2
                yield f"1 - {name}", 1 - shaped
                yield f"{name} (1 - {name})", shaped * (1 - shaped)


def _shaped(value, shape) -> Iterator[np.ndarray]:
    """The value with axes of length 1 put in, so that it broadcasts: as its last axes, or as its first."""
    if value.shape == shape or value.shape == shape[len(shape) - value.ndim :]:
        yield value
    elif value.ndim < len(shape) and value.shape == shape[: value.ndim]:
        yield value.reshape(value.shape + (1,) * (len(shape) - value.ndim))


def _rows(evidence) -> list[int]:
    """The axes along which expected / actual does not change, if it does along others, alike in all trials."""
    actual, expected, allowed = (np.stack(v) for v in (evidence.actual, evidence.expected, evidence.tolerance))
    if evidence.x.ndim < 2 or evidence.elementwise:
        return []
    for axis in range(evidence.x.ndim):
        over = (0, axis + 1)
        if evidence.shape[axis] < 3:
            continue
        energy = np.sum(np.abs(actual) ** 2, axis=over, keepdims=True)
        if np.any(energy == 0):
            continue
        factor = np.sum(np.conj(actual) * expected, axis=over, keepdims=True) / energy
        grown = 3 * allowed * np.maximum(1.0, np.abs(factor))
        varies = np.ptp(np.abs(factor)) > SPREAD * np.max(np.abs(factor))
        if varies and np.all(np.abs(factor * actual - expected) <= grown):
            return [axis]
    return []
