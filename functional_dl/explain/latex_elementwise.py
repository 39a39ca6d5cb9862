"""Formulas of elementary and special functions, entry by entry."""

from __future__ import annotations

from functional_dl.explain.latex import Terms, entries

entries(
    exp=(r"e^{<x>}", r"<c> \odot <y>"),
    exp2=(r"2^{<x>}", r"\ln 2 \cdot <c> \odot <y>"),
    expm1=(r"e^{<x>} - 1", r"<c> \odot (<y> + 1)"),
    log=(r"\ln <x>", r"<c> / <x>"),
    log1p=(r"\ln(1 + <x>)", r"<c> / (1 + <x>)"),
    log2=(r"\log_2 <x>", r"<c> / (<x> \ln 2)"),
    one_minus_square=("1 - <x>^2", r"-2\, <c> \odot <x>"),
    polynomial=(
        r"\textstyle\sum_k a_k <x>^k, \quad a = (<1>, \dots)",
        r"<c> \odot \textstyle\sum_k k\, a_k <x>^{k - 1}",
        lambda terms: f"<c> \\odot <x>^{{{terms.place - 1}}}",
    ),
    logistic=(r"\sigma(<x>)", r"<c> \odot <y> \odot (1 - <y>)"),
    sin=(r"\sin <x>", r"<c> \odot \cos <x>"),
    cos=(r"\cos <x>", r"-<c> \odot \sin <x>"),
    tan=(r"\tan <x>", r"<c> \odot (1 + <y>^2)"),
    asin=(r"\arcsin <x>", r"<c> / \sqrt{1 - <x>^2}"),
    acos=(r"\arccos <x>", r"-<c> / \sqrt{1 - <x>^2}"),
    atan=(r"\arctan <x>", r"<c> / (1 + <x>^2)"),
    atan2=(
        r"\operatorname{atan2}(<0>, <1>)",
        r"<c> \odot <1> / (<0>^2 + <1>^2)",
        r"-<c> \odot <0> / (<0>^2 + <1>^2)",
    ),
    sinh=(r"\sinh <x>", r"<c> \odot \cosh <x>"),
    cosh=(r"\cosh <x>", r"<c> \odot \sinh <x>"),
    tanh=(r"\tanh <x>", r"<c> \odot (1 - <y>^2)"),
    asinh=(r"\operatorname{arsinh} <x>", r"<c> / \sqrt{<x>^2 + 1}"),
    acosh=(r"\operatorname{arcosh} <x>", r"<c> / \sqrt{<x>^2 - 1}"),
    atanh=(r"\operatorname{artanh} <x>", r"<c> / (1 - <x>^2)"),
    erf=(r"\operatorname{erf} <x>", r"\tfrac{2}{\sqrt{\pi}}\, <c> \odot e^{-<x>^2}"),
    erfc=(r"\operatorname{erfc} <x>", r"-\tfrac{2}{\sqrt{\pi}}\, <c> \odot e^{-<x>^2}"),
    erf_inv=(r"\operatorname{erf}^{-1} <x>", r"\tfrac{\sqrt{\pi}}{2}\, <c> \odot e^{<y>^2}"),
    lgamma=(r"\ln \Gamma(<x>)", r"<c> \odot \psi(<x>)"),
    digamma=(r"\psi(<x>)", r"<c> \odot \psi_1(<x>)"),
    polygamma=(r"\psi_{<0>}(<1>)", "0", r"<c> \odot \psi_{<0> + 1}(<1>)"),
    zeta=(
        r"\zeta(<0>, <1>)",
        r"<c> \odot \partial_{<0>} \zeta(<0>, <1>)",
        r"-<c> \odot <0> \odot \zeta(<0> + 1, <1>)",
    ),
    igamma=(
        r"P(<0>, <1>) = \tfrac{1}{\Gamma(<0>)} \int_0^{<1>} t^{<0> - 1} e^{-t}\, dt",
        r"<c> \odot \partial_{<0>} P(<0>, <1>)",
        r"<c> \odot <1>^{<0> - 1} e^{-<1>} / \Gamma(<0>)",
    ),
    igammac=(
        r"Q(<0>, <1>) = 1 - P(<0>, <1>)",
        r"-<c> \odot \partial_{<0>} P(<0>, <1>)",
        r"-<c> \odot <1>^{<0> - 1} e^{-<1>} / \Gamma(<0>)",
    ),
    igamma_grad_a=(
        r"\partial_{<0>} P(<0>, <1>)",
        r"<c> \odot \partial_{<0>}^2 P(<0>, <1>)",
        r"<c> \odot \partial_{<0>} \partial_{<1>} P(<0>, <1>)",
    ),
    regularized_incomplete_beta=(
        r"I_{<2>}(<0>, <1>)",
        r"<c> \odot \partial_{<0>} I_{<2>}(<0>, <1>)",
        r"<c> \odot \partial_{<1>} I_{<2>}(<0>, <1>)",
        r"<c> \odot <2>^{<0> - 1} (1 - <2>)^{<1> - 1} / B(<0>, <1>)",
    ),
    bessel_i0e=(
        r"e^{-|<x>|} I_0(<x>)",
        r"<c> \odot \left(e^{-|<x>|} I_1(<x>) - \operatorname{sign}(<x>)\, <y>\right)",
    ),
    bessel_i1e=(
        r"e^{-|<x>|} I_1(<x>)",
        r"<c> \odot \left(e^{-|<x>|} I_0(<x>) - <y> \odot (\operatorname{sign}(<x>) + 1/<x>)\right)",
    ),
    random_gamma=(
        r"\gamma \sim \operatorname{Gamma}(<1>)",
        "0",
        r"-<c> \odot \frac{\partial_{<1>} P(<1>, <y>)}{\partial_{<y>} P(<1>, <y>)}",
    ),
)


def _cast(terms: Terms) -> str:
    return f"\\operatorname{{{terms.params.get('new_dtype', 'cast')!s}}}(<x>)"


entries(
    convert_element_type=(_cast, r"\operatorname{cast}(<c>)"),
    reduce_precision=(r"\operatorname{round}(<x>)", r"\operatorname{round}(<c>)"),
    copy=("<x>", "<c>"),
    copy_p=("<x>", "<c>"),
)
