"""Formulas of what moves numbers: reshaping, broadcasting, slices, gathers, scatters, and their ways back."""

from __future__ import annotations

from functional_dl.explain.latex import Formula, Terms, bar, entries


def shape(dims) -> str:
    return " \\times ".join(map(str, dims)) or "1"


def _spread_back(terms: Terms) -> str:
    kept = terms.params["broadcast_dimensions"]
    inside, outside = terms.shapes[0], terms.out_shapes[0]
    summed = [
        axis
        for axis in range(len(outside))
        if axis not in kept or (inside[kept.index(axis)] == 1 and outside[axis] != 1)
    ]
    if not summed:
        return r"\operatorname{reshape}(<c>)"
    if len(summed) == len(outside):
        return r"\textstyle\sum <c>"
    return f"\\textstyle\\sum_{{\\text{{axis }}{', '.join(map(str, summed))}}} <c>"


def _turn(terms: Terms) -> str:
    order = tuple(terms.params["permutation"])
    if order == (1, 0):
        return r"<x>^{\top}"
    return f"<x>^{{({' '.join(map(str, order))})}}"


def _turn_back(terms: Terms) -> str:
    order = tuple(terms.params["permutation"])
    if order == (1, 0):
        return r"<c>^{\top}"
    back = sorted(range(len(order)), key=lambda i: order[i])
    return f"<c>^{{({' '.join(map(str, back))})}}"


def _slice(terms: Terms) -> str:
    p = terms.params
    strides = p.get("strides") or [1] * len(p["start_indices"])
    parts = []
    for size, low, high, stride in zip(terms.shapes[0], p["start_indices"], p["limit_indices"], strides):
        whole = low == 0 and high == size and stride == 1
        parts.append(":" if whole else f"{low}{{:}}{high}" + (f"{{:}}{stride}" if stride != 1 else ""))
    return f"[{', '.join(parts)}]"


def _joined(terms: Terms) -> str:
    return f"\\operatorname{{concat}}({', '.join(terms.xs)})"


def _stack(terms: Terms) -> str:
    return f"\\operatorname{{stack}}({', '.join(terms.xs)})"


def _split_back(terms: Terms) -> str:
    return f"\\operatorname{{concat}}({', '.join(bar(y) for y in terms.ys)})"


def _barrier_back(terms: Terms) -> str:
    return bar(terms.ys[min(terms.place, len(terms.ys) - 1)])


def _each(terms: Terms) -> str:
    return ", ".join(terms.xs)


def _at(terms: Terms) -> str:
    return f"[{', '.join(terms.xs[1:])}]" if terms.params.get("slice_sizes") else f"[{', '.join(terms.xs[2:])}]"


entries(
    broadcast_in_dim=Formula(lambda t: f"\\operatorname{{spread}}_{{{shape(t.out_shapes[0])}}}(<x>)", (_spread_back,)),
    reshape=Formula(
        lambda t: f"\\operatorname{{reshape}}_{{{shape(t.out_shapes[0])}}}(<x>)",
        (lambda t: f"\\operatorname{{reshape}}_{{{shape(t.shapes[0])}}}(<c>)",),
    ),
    squeeze=Formula(
        lambda t: f"\\operatorname{{reshape}}_{{{shape(t.out_shapes[0])}}}(<x>)",
        (lambda t: f"\\operatorname{{reshape}}_{{{shape(t.shapes[0])}}}(<c>)",),
    ),
    transpose=Formula(_turn, (_turn_back,)),
    concatenate=Formula(_joined, (lambda t: f"<c>[\\text{{the part of }} {t.xs[t.place]}]",)),
    stack=Formula(_stack, (lambda t: f"<c>[{t.place}]",)),
    unstack=Formula(
        r"\operatorname{unstack}(<x>)", (lambda t: f"\\operatorname{{stack}}({', '.join(bar(y) for y in t.ys)})",)
    ),
    split=Formula(r"\operatorname{split}(<x>)", (_split_back,)),
    pad=(r"\operatorname{pad}(<0>, <1>)", r"<c>[\text{inside}]", r"\textstyle\sum <c>[\text{padding}]"),
    rev=(r"\operatorname{reverse}(<x>)", r"\operatorname{reverse}(<c>)"),
    tile=(r"\operatorname{tile}(<x>)", r"\textstyle\sum_{\text{copies}} <c>"),
    iota=("(0, 1, 2, \\dots)",),
    slice=Formula(lambda t: f"<x>{_slice(t)}", (lambda t: f"\\operatorname{{pad}}(<c>) \\text{{ at }} {_slice(t)}",)),
    dynamic_slice=Formula(lambda t: f"<x>{_at(t)}", (lambda t: f"\\operatorname{{pad}}(<c>) \\text{{ at }} {_at(t)}",)),
    dynamic_update_slice=Formula(
        lambda t: f"<0> \\text{{ with }} <1> \\text{{ at }} {_at(t)}",
        (lambda t: f"<c> \\text{{ with }} 0 \\text{{ at }} {_at(t)}", lambda t: f"<c>{_at(t)}"),
    ),
    gather=(r"<0>[<1>]", r"\textstyle\sum_{k :\, <1>_k = i} <c>_k \quad (\text{at each place } i)"),
    **{
        "scatter-add": Formula(r"<0>; \quad <y>[<1>] \mathrel{+}= <2>", ("<c>", "0", "<c>[<1>]")),
        "scatter-sub": Formula(r"<0>; \quad <y>[<1>] \mathrel{-}= <2>", ("<c>", "0", "-<c>[<1>]")),
        "scatter": Formula(r"<0>; \quad <y>[<1>] = <2>", (r"<c> \text{ with } 0 \text{ at } <1>", "0", "<c>[<1>]")),
        "scatter-mul": Formula(
            r"<0>; \quad <y>[<1>] \mathrel{\cdot}= <2>",
            (r"<c> \odot (1; \cdot <2> \text{ at } <1>)", "0", r"<c>[<1>] \odot (<y> / <2>)[<1>]"),
        ),
        "scatter-min": Formula(
            r"<0>; \quad <y>[<1>] = \min(<y>[<1>], <2>)",
            (r"<c> \odot [<y> = <0>]", "0", r"<c>[<1>] \odot [<y>[<1>] = <2>]"),
        ),
        "scatter-max": Formula(
            r"<0>; \quad <y>[<1>] = \max(<y>[<1>], <2>)",
            (r"<c> \odot [<y> = <0>]", "0", r"<c>[<1>] \odot [<y>[<1>] = <2>]"),
        ),
    },
    optimization_barrier=Formula(_each, (_barrier_back,)),
    name=("<x>", "<c>"),
    sharding_constraint=("<x>", "<c>"),
    device_put=Formula(_each, (_barrier_back,)),
    reshard=("<x>", "<c>"),
    remat_opt=Formula(r"f(<x>)", (r"(\partial f / \partial <s>)^{\top} <c>",)),
    composite=Formula(
        lambda t: f"\\operatorname{{{t.label.replace('_', ' ') or 'f'}}}({', '.join(t.xs)})",
        (r"(\partial <y> / \partial <s>)^{\top} <c>",),
    ),
    custom_vmap_call=Formula(r"f(<x>)", (r"(\partial f / \partial <s>)^{\top} <c>",)),
    linear_call=Formula(r"A <x>", (r"A^{\top} <c>",)),
)
