"""Products summed over shared axes: dot_general with every layout of batch, contracted and free axes."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import dot_general_p

from functional_dl.reverse.latex import Terms, bar
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.values import of_dtype
from functional_dl.sharding import cotangent_sharding, permuted

ALL = FLOATS + COMPLEX


def _dot(dimension_numbers):
    return lambda x, y: lax.dot_general(x, y, dimension_numbers)


def _wider(dtype):
    return "float64" if dtype == jnp.float64 else "float32"


INDICES = "ijklmnopqrstuvwabcdefgh"


def _parts(terms: Terms):
    (left, right), (left_batch, right_batch) = terms.params["dimension_numbers"]
    return tuple(left), tuple(right), tuple(left_batch), tuple(right_batch)


def _matrix_case(terms: Terms) -> str | None:
    """How the operands enter a product of matrices and vectors: "" or "T" for each; None for other contractions."""
    left, right, left_batch, right_batch = _parts(terms)
    a, b = (len(shape) for shape in terms.shapes[:2])
    if len(left) != 1 or left_batch != tuple(range(len(left_batch))) or right_batch != left_batch:
        return None
    batch = len(left_batch)
    if b - batch not in (1, 2) or (a - batch not in (1, 2) and not (batch == 0 and left[0] == a - 1)):
        return None
    left_transposed = left[0] != a - 1
    right_transposed = b - batch == 2 and right[0] != batch
    return ("T" if left_transposed else "-") + ("T" if right_transposed else "-")


def _transposed(name: str, transposed: bool) -> str:
    if not transposed:
        return name
    return f"{{{name}}}^{{\\top}}" if "^" in name or "'" in name else f"{name}^{{\\top}}"


def _dot_latex(terms: Terms) -> str:
    case = _matrix_case(terms)
    a, b = terms.xs[:2]
    if case is None:
        return _sum(terms, a, b)
    if len(terms.shapes[0]) == len(terms.shapes[1]) == 1:
        return f"\\langle {a}, {b} \\rangle"
    return f"{_transposed(a, case[0] == 'T')}\\, {_transposed(b, case[1] == 'T')}"


def _dot_bar_latex(terms: Terms) -> str:
    case = _matrix_case(terms)
    a, b = terms.xs[:2]
    c = bar(terms.ys[0])
    if case is None:
        return _sum_back(terms, a, b, c)
    vectors = len(terms.shapes[0]) == 1, len(terms.shapes[1]) == 1
    if all(vectors):
        return f"{c}\\, {b}" if terms.place == 0 else f"{c}\\, {a}"
    if terms.place == 0:
        if vectors[1]:  # y = A v
            return f"{_outer(c, b)}" if case[0] == "-" else _outer(b, c)
        if vectors[0]:  # y = v B
            return f"{c}\\, {_transposed(b, case[1] == '-')}" if case[1] == "T" else f"{b}\\, {c}"
        product = f"{c}\\, {_transposed(b, case[1] == '-')}"
        return product if case[0] == "-" else f"{_transposed(b, case[1] == 'T')}\\, {_transposed(c, True)}"
    if vectors[1]:
        return f"{_transposed(a, case[0] == '-')}\\, {c}"
    if vectors[0]:
        return _outer(a, c) if case[1] == "-" else _outer(c, a)
    product = f"{_transposed(a, case[0] == '-')}\\, {c}"
    if case[1] == "T":
        return f"{_transposed(c, True)}\\, {_transposed(a, case[0] == 'T')}"
    return product


def _outer(u: str, v: str) -> str:
    return f"{u}\\, {_transposed(v, True)}"


def _letters(terms: Terms) -> tuple[str, str, str, str]:
    """Indices of A, B and C, and those that are summed."""
    left, right, left_batch, right_batch = _parts(terms)
    supply = iter(INDICES)
    a: list[str] = [""] * len(terms.shapes[0])
    b: list[str] = [""] * len(terms.shapes[1])
    for i, j in zip(left_batch, right_batch):
        a[i] = b[j] = next(supply)
    batch = "".join(a[i] for i in left_batch)
    for i in range(len(a)):
        if not a[i] and i not in left:
            a[i] = next(supply)
    for j in range(len(b)):
        if not b[j] and j not in right:
            b[j] = next(supply)
    summed = ""
    for i, j in zip(left, right):
        a[i] = b[j] = next(supply)
        summed += a[i]
    free = "".join(x for i, x in enumerate(a) if i not in left_batch and i not in left)
    other = "".join(x for j, x in enumerate(b) if j not in right_batch and j not in right)
    return "".join(a), "".join(b), batch + free + other, summed


def _at(name: str, letters: str) -> str:
    if not letters:
        return name
    return f"{{{name}}}_{{{letters}}}" if any(c in name for c in "^_'") else f"{name}_{{{letters}}}"


def _sum(terms: Terms, a: str, b: str) -> str:
    i, j, k, summed = _letters(terms)
    total = f"\\textstyle\\sum_{{{summed}}} " if summed else ""
    return f"\\Big[{total}{_at(a, i)}\\, {_at(b, j)}\\Big]_{{{k}}}"


def _sum_back(terms: Terms, a: str, b: str, c: str) -> str:
    i, j, k, _ = _letters(terms)
    own, other, name = (i, j, b) if terms.place == 0 else (j, i, a)
    summed = "".join(letter for letter in k if letter not in own)
    total = f"\\textstyle\\sum_{{{summed}}} " if summed else ""
    return f"\\Big[{total}{_at(c, k)}\\, {_at(name, other)}\\Big]_{{{own}}}"


@vjp_rule(
    dot_general_p,
    Probe(_dot((((1,), (0,)), ((), ()))), shapes=((2, 3), (3, 4)), dtypes=ALL),
    Probe(_dot((((0,), (1,)), ((), ()))), shapes=((3, 2), (4, 3)), dtypes=ALL),
    Probe(_dot((((0,), (0,)), ((), ()))), shapes=((3,), (3,)), dtypes=ALL),
    Probe(_dot((((), ()), ((), ()))), shapes=((2,), (3,)), dtypes=ALL),
    Probe(_dot((((2,), (1,)), ((0,), (0,)))), shapes=((2, 3, 4), (2, 4, 5))),
    Probe(_dot((((1, 3), (2, 0)), ((2,), (1,)))), shapes=((2, 3, 4, 5), (5, 4, 3))),
    Probe(_dot((((0,), (1,)), ((1, 2), (2, 0)))), shapes=((2, 3, 4), (4, 2, 3))),
    Probe(
        lambda x, y: lax.dot(x, y, preferred_element_type=_wider(x.dtype)),
        shapes=((2, 3), (3, 4)),
    ),
    reads=("y", "x"),
    latex=(_dot_latex, _dot_bar_latex),
    explicit=True,
)
def dot_general_vjp(ct, out, x, y, *, dimension_numbers, precision, preferred_element_type, **_):
    """z_{b m n} = sum_k x_{b m k} y_{b k n},  with b batch, k contracted, m and n free axes
    =>  x_bar_{b m k} = sum_n z_bar_{b m n} y_{b k n},   y_bar_{b k n} = sum_m x_{b m k} z_bar_{b m n}.

    For matrices: X_bar = Z_bar Y^T and Y_bar = X^T Z_bar = (Z_bar^T X)^T.  A compiler copies the factor that is
    transposed, so of the two forms of Y_bar that one is taken which transposes the smaller factor.  A Z_bar that
    nothing else reads, X being a constant, can be made in transposed order at once: then it is the second form.
    """
    (x_contract, y_contract), (x_batch, y_batch) = dimension_numbers
    x_free = [i for i in range(x.ndim) if i not in x_contract and i not in x_batch]
    y_free = [i for i in range(y.ndim) if i not in y_contract and i not in y_batch]
    b, m, n = len(x_batch), len(x_free), len(y_free)
    ct_batch, ct_m, ct_n = list(range(b)), list(range(b, b + m)), list(range(b + m, b + m + n))

    def contract(left, right, dimensions, axes, like, precision):
        """left . right, whose result has its axes in the order `axes` of `like`, put in like's own order."""
        bar = lax.dot_general(
            left,
            right,
            dimensions,
            precision=precision,
            preferred_element_type=preferred_element_type,
            out_sharding=permuted(cotangent_sharding(like, ct), axes),
        )
        order = sorted(range(like.ndim), key=axes.__getitem__)
        bar = bar if order == list(range(like.ndim)) else lax.transpose(bar, order)
        return of_dtype(bar, like.dtype)

    read = []  # what has read ct before

    def x_bar():
        read.append("x_bar")
        # the result's axes: b, m, and k in the order of y's own axes
        k = [x_contract[i] for i in np.argsort(y_contract)]
        dimensions = ((ct_n, y_free), (ct_batch, y_batch))
        return contract(ct, y, dimensions, [*x_batch, *x_free, *k], x, precision)

    def y_bar():
        # the result's axes: b, k in the order of x's own axes, and n
        k = [y_contract[i] for i in np.argsort(x_contract)]
        if ct.size < x.size or not read:
            dimensions = ((ct_m, x_free), (ct_batch, x_batch))
            return contract(ct, x, dimensions, [*y_batch, *y_free, *k], y, precision)
        dimensions = ((x_free, ct_m), (x_batch, ct_batch))
        return contract(x, ct, dimensions, [*y_batch, *k, *y_free], y, precision)

    return x_bar, y_bar
