"""Formulas of loops, branches, calls, references and programs on many devices."""

from __future__ import annotations

from functional_dl.explain.latex import Formula, Terms, bar, entries
from functional_dl.jaxprs import scan_sizes

LAYOUT = ("jaxpr", "length", "reverse", "unroll")


def _sizes(terms: Terms) -> tuple[int, int]:
    layout = {k: v for k, v in terms.params.items() if k not in LAYOUT}
    return scan_sizes(layout, list(terms.xs))


def _listed(names) -> str:
    return ", ".join(names)


def _scan(terms: Terms) -> str:
    """(s_{t+1}, y_t) = f(c, s_t, x_t)."""
    consts, carry = _sizes(terms)
    states, items = terms.ys[:carry], terms.ys[carry:]
    start, xs = terms.xs[consts : consts + carry], terms.xs[consts + carry :]
    arguments = ["c"] if consts else []
    arguments += ["s_t"] * bool(carry) + ["x_t"] * bool(xs)
    left = ", ".join(["s_{t+1}"] * bool(carry) + ["y_t"] * bool(items))
    left = f"({left})" if carry and items else left
    length = terms.params["length"]
    steps = f"t = {length - 1}, \\dots, 0" if terms.params["reverse"] else f"t = 0, \\dots, {length - 1}"
    where = []
    if consts:
        where.append(f"c = ({_listed(terms.xs[:consts])})")
    if carry:
        where.append(f"s_{{\\text{{start}}}} = ({_listed(start)})")
        where.append(f"({_listed(states)}) = s_{{\\text{{end}}}}")
    if xs:
        where.append(f"x = ({_listed(xs)})")
    if items:
        where.append(f"({_listed(items)}) = y")
    meaning = ", \\; ".join(where)
    return f"{left} = f({', '.join(arguments)}), \\quad {steps}; \\qquad {meaning}"


def _scan_back(terms: Terms) -> str:
    consts, carry = _sizes(terms)
    place = terms.place
    ct = r"\begin{pmatrix} \bar s_{t+1} \\ \bar y_t \end{pmatrix}"
    if not carry or carry == len(terms.ys):
        ct = r"\bar s_{t+1}" if carry else r"\bar y_t"
    if place < consts:
        return (
            f"\\textstyle\\sum_t \\left(\\frac{{\\partial f}}{{\\partial {terms.xs[place]}}}\\right)_t^{{\\top}} {ct}"
        )
    if place < consts + carry:
        return (
            r"\bar s_{\text{start}}, \qquad \bar s_t = \left(\frac{\partial f}{\partial s_t}\right)^{\top} "
            f"{ct} \\; \\text{{against the direction of }} t"
        )
    return f"\\Big[\\left(\\frac{{\\partial f}}{{\\partial x_t}}\\right)^{{\\top}} {ct}\\Big]_t"


def _while(terms: Terms) -> str:
    first = terms.params["cond_nconsts"] + terms.params["body_nconsts"]
    start = _listed(terms.xs[first:])
    return f"s_T, \\quad s_{{t+1}} = f(c, s_t) \\text{{ while }} g(s_t), \\quad s_0 = ({start})"


def _while_back(terms: Terms) -> str:
    first = terms.params["cond_nconsts"] + terms.params["body_nconsts"]
    if terms.place < first:
        slope = f"\\left(\\frac{{\\partial f}}{{\\partial {terms.xs[terms.place]}}}\\right)_t^{{\\top}}"
        return f"\\textstyle\\sum_{{t < T}} {slope} \\bar s_{{t+1}}"
    step = r"\bar s_t = \left(\frac{\partial f}{\partial s_t}\right)^{\top} \bar s_{t+1}"
    return rf"\bar s_0, \qquad {step}, \quad t = T-1, \dots, 0"


def _cond(terms: Terms) -> str:
    index, *operands = terms.xs
    given = _listed(operands)
    count = len(terms.params["branches"])
    cases = r" \\ ".join(f"f_{{{i}}}({given}) & {index} = {i}" for i in range(count))
    return f"\\begin{{cases}} {cases} \\end{{cases}}"


def _cond_back(terms: Terms) -> str:
    index = terms.xs[0]
    count = len(terms.params["branches"])
    ct = bar(terms.ys[0]) if len(terms.ys) == 1 else r"\bar y"
    cases = r" \\ ".join(f"(\\partial f_{{{i}}} / \\partial <s>)^{{\\top}} {ct} & {index} = {i}" for i in range(count))
    return f"\\begin{{cases}} {cases} \\end{{cases}}"


def _call(terms: Terms) -> str:
    return f"\\operatorname{{{terms.label.replace('_', ' ') or 'f'}}}({_listed(terms.xs)})"


CALL_BACK = r"\left(\frac{\partial f}{\partial <s>}\right)^{\top} <c>"

entries(
    scan=Formula(_scan, (_scan_back,), whole=True),
    **{"while": Formula(_while, (_while_back,))},
    cond=Formula(_cond, (_cond_back,)),
    jit=Formula(_call, (CALL_BACK,)),
    pjit=Formula(_call, (CALL_BACK,)),
    closed_call=Formula(_call, (CALL_BACK,)),
    eval_jaxpr=Formula(_call, (CALL_BACK,)),
    call_hi_primitive=Formula(_call, (CALL_BACK,)),
    **{
        name: Formula(_call, (CALL_BACK + r" \quad (f \text{ computed again})",))
        for name in ("remat", "remat2", "checkpoint")
    },
    new_ref=(r"\operatorname{ref}(<x>)", r"<c>"),
    freeze=(r"<x>[\,]", r"<c>"),
    get=(r"<x>[\,]", r"<c>"),
    swap=(r"<x>[\,], \quad <x>[\,] := <1>", "<c>", r"\overline{<0>[\,]}"),
    addupdate=(r"<0>[\,] \mathrel{+}= <1>", "<c>", r"\overline{<0>[\,]}"),
    shard_map=Formula(_call, (CALL_BACK + r" \quad \text{on each device}",)),
    psum=(r"\textstyle\sum_{\text{devices}} <x>", r"\textstyle\sum_{\text{devices}} <c>"),
    psum_invariant=(r"\textstyle\sum_{\text{devices}} <x>", "<c>"),
    pvary=("<x>", r"\textstyle\sum_{\text{devices}} <c>"),
    ppermute=(r"<x>_{\pi(\text{device})}", r"<c>_{\pi^{-1}(\text{device})}"),
    all_gather=(r"(<x>_d)_{d}", r"\textstyle\sum_{\text{devices}} <c>[\text{own part}]"),
    reduce_scatter=(r"\textstyle\sum_{\text{devices}} <x> [\text{own part}]", r"(<c>_d)_{d}"),
    all_to_all=(r"\operatorname{alltoall}(<x>)", r"\operatorname{alltoall}^{-1}(<c>)"),
)
