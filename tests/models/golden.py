"""Reproducible numbers by name, for the networks that make_references_deep.py builds and those that the tests build."""

import math

import numpy as np


def golden(name: str, shape: tuple[int, ...], width: float = 1.0) -> np.ndarray:
    """Entries of a golden-ratio sequence, spread evenly over [-width/2, width/2]; the name says where it starts."""
    start = sum((i + 1) * ord(c) for i, c in enumerate(name)) * 0.7548776662466927
    return ((start + np.arange(1, math.prod(shape) + 1) * 0.6180339887498949) % 1.0 - 0.5).reshape(shape) * width


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter in PyTorch's layout, (out, in, *window): of variance about 1 / 3 in; a norm's scale is near 1."""
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
    return golden(name, shape, 2 / math.sqrt(fan_in)) + (len(shape) == 1 and name.endswith("weight"))


def tokens(name: str, shape: tuple[int, ...], vocabulary: int) -> np.ndarray:
    return np.floor((golden(name, shape) + 0.5) * vocabulary).astype(np.int64)
