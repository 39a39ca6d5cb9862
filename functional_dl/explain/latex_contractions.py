r"""Formulas of products of matrices and tensors, convolutions: C = A B, \bar A += \bar C B^T, \bar B += A^T \bar C."""

from __future__ import annotations

from functional_dl.explain.latex import Formula, Terms, bar, entries

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
    turned_left = left[0] != a - 1
    turned_right = b - batch == 2 and right[0] != batch
    return ("T" if turned_left else "-") + ("T" if turned_right else "-")


def _turned(name: str, turned: bool) -> str:
    if not turned:
        return name
    return f"{{{name}}}^{{\\top}}" if "^" in name or "'" in name else f"{name}^{{\\top}}"


def _dot(terms: Terms) -> str:
    case = _matrix_case(terms)
    a, b = terms.xs[:2]
    if case is None:
        return _sum(terms, a, b)
    if len(terms.shapes[0]) == len(terms.shapes[1]) == 1:
        return f"\\langle {a}, {b} \\rangle"
    return f"{_turned(a, case[0] == 'T')}\\, {_turned(b, case[1] == 'T')}"


def _dot_back(terms: Terms) -> str:
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
            return f"{a_outer(c, b)}" if case[0] == "-" else a_outer(b, c)
        if vectors[0]:  # y = v B
            return f"{c}\\, {_turned(b, case[1] == '-')}" if case[1] == "T" else f"{b}\\, {c}"
        product = f"{c}\\, {_turned(b, case[1] == '-')}"
        return product if case[0] == "-" else f"{_turned(b, case[1] == 'T')}\\, {_turned(c, True)}"
    if vectors[1]:
        return f"{_turned(a, case[0] == '-')}\\, {c}"
    if vectors[0]:
        return a_outer(a, c) if case[1] == "-" else a_outer(c, a)
    product = f"{_turned(a, case[0] == '-')}\\, {c}"
    if case[1] == "T":
        return f"{_turned(c, True)}\\, {_turned(a, case[0] == 'T')}"
    return product


def a_outer(u: str, v: str) -> str:
    return f"{u}\\, {_turned(v, True)}"


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


def _stride(terms: Terms) -> str:
    strides = terms.params.get("window_strides", ())
    return f"_{{\\downarrow {strides[0]}}}" if any(s != 1 for s in strides) else ""


entries(
    dot_general=Formula(_dot, (_dot_back,)),
    ragged_dot_general=(
        r"\big[<0>^{(g)}\, <1>_g\big]_{g}",
        r"\big[<c>^{(g)}\, <1>_g^{\top}\big]_g",
        r"\big[{<0>^{(g)}}^{\top}\, <c>^{(g)}\big]_g",
    ),
    conv_general_dilated=Formula(
        lambda t: f"<0> \\star{_stride(t)} <1>",
        (
            lambda t: (
                "<c> \\ast <1>" + (r"\quad(\text{with } <c> \text{ spread out by the stride})" if _stride(t) else "")
            ),
            r"<0> \star <c>",
        ),
    ),
)
