"""Primitives of whole arrays on numbers of many digits: what moves numbers about, sums, products, contractions.

What only moves numbers about is asked of the primitive itself, for their positions.
"""

import functools
import itertools
import math

import numpy as np

from functional_dl.calculus.ball_rules import RULES, elementwise, rule
from functional_dl.jaxprs import bind


@rule("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "dynamic_slice", "gather")
@rule("concatenate", "stack", "split", "rev", "pad", "copy", "copy_p", "reduce_precision", "device_put", "name")
@rule("dynamic_update_slice", "stop_gradient", "unstack", "tile", "optimization_barrier")
def _moves(arithmetic, primitive, operands, params):
    """Applied to the positions of the numbers, which are then fetched."""
    store: list = []
    positions = []
    for x in operands:
        if x.dtype == object:
            positions.append((len(store) + np.arange(x.size)).reshape(x.shape).astype(np.float64))
            store.extend(x.reshape(-1))
        else:
            positions.append(x)
    table = np.array(store, dtype=object)
    return [np.asarray(table[np.asarray(out).astype(int)], object) for out in bind(primitive, positions, params)]


def _reduction(combine):
    def apply(arithmetic, primitive, operands, params):
        x = operands[0]
        axes = tuple(params["axes"])
        kept = [i for i in range(x.ndim) if i not in axes]
        rows = np.transpose(x, [*kept, *axes]).reshape(*[x.shape[i] for i in kept], -1)
        out = np.empty(rows.shape[:-1], object)
        for index in np.ndindex(out.shape):
            row = list(rows[index])
            out[index] = functools.reduce(combine, row) if row else None
        if any(v is None for v in out.reshape(-1)):
            raise NotImplementedError("a reduction of nothing")
        return [out]

    return apply


RULES["reduce_sum"] = _reduction(lambda a, b: a + b)
RULES["reduce_prod"] = _reduction(lambda a, b: a * b)
RULES["reduce_max"] = _reduction(lambda a, b: a if a.compare(b) in (0, 1, 2) else b)
RULES["reduce_min"] = _reduction(lambda a, b: a if a.compare(b) in (0, -1, 2) else b)


def _cumulative(combine):
    def apply(arithmetic, primitive, operands, params):
        x, axis = np.moveaxis(operands[0], params["axis"], 0), params["axis"]
        rows = [x[i] for i in range(len(x))]
        if params["reverse"]:
            rows.reverse()
        done = list(itertools.accumulate(rows, lambda a, b: elementwise(combine, a, b)))
        if params["reverse"]:
            done.reverse()
        return [np.moveaxis(np.stack(done), 0, axis) if done else operands[0]]

    return apply


RULES["cumsum"] = _cumulative(lambda a, b: a + b)
RULES["cumprod"] = _cumulative(lambda a, b: a * b)


@rule("dot_general")
def _dot_general(arithmetic, primitive, operands, params):
    (ca, cb), (ba, bb) = params["dimension_numbers"]
    a, b = operands
    fa, fb = ([i for i in range(x.ndim) if i not in (*c, *d)] for x, c, d in ((a, ca, ba), (b, cb, bb)))
    batch = [a.shape[i] for i in ba]
    rows = np.transpose(a, [*ba, *fa, *ca]).reshape(math.prod(batch), math.prod(a.shape[i] for i in fa), -1)
    columns = np.transpose(b, [*bb, *fb, *cb]).reshape(math.prod(batch), math.prod(b.shape[i] for i in fb), -1)
    out = np.empty((len(rows), rows.shape[1], columns.shape[1]), object)
    for k, i, j in np.ndindex(out.shape):
        out[k, i, j] = functools.reduce(lambda s, t: s + t, [x * y for x, y in zip(rows[k, i], columns[k, j])])
    return [out.reshape(*batch, *(a.shape[i] for i in fa), *(b.shape[i] for i in fb))]
