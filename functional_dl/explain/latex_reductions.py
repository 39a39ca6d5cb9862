"""Formulas of sums, products and extremes along axes, cumulative ones, sorting, pooling."""

from __future__ import annotations

from functional_dl.explain.latex import Formula, Terms, bar, entries


def axes(terms: Terms) -> str:
    """The summation's subscript: nothing where all axes go."""
    given = tuple(terms.params.get("axes", ()))
    if len(given) == len(terms.shapes[0]):
        return ""
    return f"_{{\\text{{axis }}{', '.join(map(str, given))}}}"


def _fold(symbol: str):
    return lambda terms: f"\\textstyle{symbol}{axes(terms)} <x>"


def _along(terms: Terms) -> str:
    return "_{s \\ge t}" if terms.params.get("reverse") else "_{s \\le t}"


def _against(terms: Terms) -> str:
    return "_{s \\le t}" if terms.params.get("reverse") else "_{s \\ge t}"


entries(
    reduce_sum=Formula(_fold(r"\sum"), (r"\mathbf{1} \odot <c>",)),
    reduce_prod=Formula(_fold(r"\prod"), (r"<c> \odot \textstyle\prod_{j \ne i} <x>_j",)),
    reduce_max=Formula(_fold(r"\max"), (r"<c> \odot [<x> = <y>] \,/\, \#\{<x> = <y>\}",)),
    reduce_min=Formula(_fold(r"\min"), (r"<c> \odot [<x> = <y>] \,/\, \#\{<x> = <y>\}",)),
    argmax=Formula(_fold(r"\operatorname{arg\,max}")),
    argmin=Formula(_fold(r"\operatorname{arg\,min}")),
    reduce=Formula(r"\operatorname{fold}(<x>)", (r"<c> \odot \partial \operatorname{fold}(<x>) / \partial <s>",)),
    cumsum=Formula(lambda t: f"\\textstyle\\sum{_along(t)} <x>_s", (lambda t: f"\\textstyle\\sum{_against(t)} <c>_s",)),
    cumprod=Formula(
        lambda t: f"\\textstyle\\prod{_along(t)} <x>_s",
        (lambda t: f"\\textstyle\\sum{_against(t)} <c>_s \\prod_{{r \\ne t}} <x>_r",),
    ),
    cumlogsumexp=Formula(
        lambda t: f"\\ln \\textstyle\\sum{_along(t)} e^{{<x>_s}}",
        (lambda t: f"\\textstyle\\sum{_against(t)} <c>_s\\, e^{{<x>_t - <y>_s}}",),
    ),
    cummax=Formula(
        lambda t: f"\\max{_along(t)} <x>_s", (lambda t: f"\\textstyle\\sum{_against(t)} <c>_s\\, [<x>_t = <y>_s]",)
    ),
    cummin=Formula(
        lambda t: f"\\min{_along(t)} <x>_s", (lambda t: f"\\textstyle\\sum{_against(t)} <c>_s\\, [<x>_t = <y>_s]",)
    ),
    reduce_window_sum=(r"\textstyle\sum_{\text{window}} <x>", r"\textstyle\sum_{\text{windows over it}} <c>"),
    reduce_window_max=(
        r"\max_{\text{window}} <x>",
        r"\textstyle\sum_{\text{windows whose greatest it is}} <c>",
    ),
    reduce_window_min=(r"\min_{\text{window}} <x>", r"\textstyle\sum_{\text{windows whose least it is}} <c>"),
    reduce_window=(
        r"\operatorname{fold}_{\text{window}}(<x>)",
        r"\textstyle\sum_{\text{windows over it}} <c> \odot \partial \operatorname{fold} / \partial <s>",
    ),
    select_and_gather_add=(
        r"<0>[\text{place of each window's extreme of } <1>]",
        r"\text{add } <c> \text{ at these places}",
        "0",
    ),
    select_and_scatter_add=(
        r"\text{add } <0> \text{ at each window's extreme of } <1>",
        r"<c>[\text{these places}]",
        "0",
    ),
)


def _sorted(terms: Terms) -> str:
    keys = terms.params.get("num_keys", 1)
    ys = ", ".join(f"{x}[\\pi]" for x in terms.xs)
    return f"{ys}, \\quad \\pi = \\operatorname{{argsort}}({', '.join(terms.xs[:keys])})"


def _sorted_back(terms: Terms) -> str:
    return f"{bar(terms.ys[terms.place])}[\\pi^{{-1}}]"


entries(
    sort=Formula(_sorted, (_sorted_back,)),
    top_k=(r"<x>[\pi], \quad \pi = \operatorname{top}_k(<x>)", r"\text{put } <c0> \text{ at } \pi"),
    approx_top_k=(r"<x>[\pi], \quad \pi \approx \operatorname{top}_k(<x>)", r"\text{put } <c0> \text{ at } \pi"),
)
