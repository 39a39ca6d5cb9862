"""Means over seeds with their uncertainty."""

import numpy as np
from scipy import stats

LEVEL = 0.95


def mean_interval(values, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(mean, half width of its 95 % confidence interval) over seeds, by Student's t.

    half width = t_{n-1, 0.975} s / sqrt(n), with s the sample standard deviation.
    Raises ValueError for fewer than two values: one seed says nothing about its own spread.
    """
    values = np.asarray(values, np.float64)
    n = values.shape[axis]
    if n < 2:
        raise ValueError(f"values: expected at least 2 along axis {axis}, got {n}")
    quantile = stats.t.ppf(0.5 + LEVEL / 2, n - 1)
    return values.mean(axis), quantile * values.std(axis, ddof=1) / np.sqrt(n)


def plus_minus(values, unit: float = 1.0, digits: int = 2) -> str:
    """'mean ± half width' of a row of values, one a seed."""
    mean, half = mean_interval(values)
    return f"{mean * unit:.{digits}f} ± {half * unit:.{digits}f}"
