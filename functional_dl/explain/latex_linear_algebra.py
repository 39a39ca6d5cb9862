"""Formulas of factorisations, solutions of linear systems, Fourier transforms."""

from __future__ import annotations

from functional_dl.explain.latex import Formula, Terms, bar, entries


def _triangle(terms: Terms) -> str:
    a, b = terms.xs[:2]
    turned = f"{a}^{{\\top}}" if terms.params.get("transpose_a") else a
    return f"{turned}^{{-1}} {b}" if terms.params.get("left_side") else f"{b}\\, {turned}^{{-1}}"


def _triangle_back(terms: Terms) -> str:
    b = bar(terms.xs[1])
    y = terms.ys[0]
    left = terms.params.get("left_side")
    if terms.place == 1:
        a = terms.xs[0]
        turned = a if terms.params.get("transpose_a") else f"{a}^{{\\top}}"
        return f"{turned}^{{-1}} <c>" if left else f"<c>\\, {turned}^{{-1}}"
    product = f"{b}\\, {y}^{{\\top}}" if left else f"{y}^{{\\top}} {b}"
    if terms.params.get("transpose_a"):
        product = f"({product})^{{\\top}}"
    return f"-\\operatorname{{tri}}({product})"


entries(
    cholesky=(
        r"L, \quad L L^{\top} = <x>",
        r"\tfrac12 \left(S + S^{\top}\right), \quad S = L^{-\top} \Phi(L^{\top} <c>)\, L^{-1}",
    ),
    triangular_solve=Formula(_triangle, (_triangle_back,)),
    lu=Formula(
        r"P <x> = L U",
        (
            r"P^{\top} L^{-\top} M U^{-\top}, "
            r"\quad M = \operatorname{tril}(L^{\top} \bar L) + \operatorname{triu}(\bar U U^{\top})",
        ),
        whole=True,
    ),
    tridiagonal_solve=(
        r"T^{-1} <3>, \quad T = \operatorname{tridiag}(<0>, <1>, <2>)",
        r"-\operatorname{lower}(v\, <y>^{\top}), \quad v = T^{-\top} <c>",
        r"-\operatorname{diag}(v\, <y>^{\top}), \quad v = T^{-\top} <c>",
        r"-\operatorname{upper}(v\, <y>^{\top}), \quad v = T^{-\top} <c>",
        r"T^{-\top} <c>",
    ),
    custom_linear_solve=(r"A^{-1} b", r"A^{-\top} <c> \text{ through the system's entries and } b"),
    qr=Formula(
        r"<x> = Q R",
        (r"\left(\bar Q + Q \operatorname{copyltu}(M)\right) R^{-\top}, \quad M = R \bar R^{\top} - \bar Q^{\top} Q",),
        whole=True,
    ),
    eigh=Formula(
        r"<x> = V \operatorname{diag}(w)\, V^{\top}",
        (
            r"V \left(\operatorname{diag}(\bar w) + F \odot (V^{\top} \bar V)\right) V^{\top}, "
            r"\quad F_{ij} = \tfrac{1}{w_j - w_i}",
        ),
        whole=True,
    ),
    svd=Formula(
        r"<x> = U \operatorname{diag}(s)\, V^{\top}",
        (
            r"U \left(\operatorname{diag}(\bar s) + (F \odot (U^{\top} \bar U - \bar U^{\top} U)) S "
            r"+ S (F \odot (V^{\top} \bar V - \bar V^{\top} V))\right) V^{\top} + \dots, "
            r"\quad F_{ij} = \tfrac{1}{s_j^2 - s_i^2}",
        ),
        whole=True,
    ),
    eig=Formula(
        r"<x> V = V \operatorname{diag}(w)",
        (r"V^{-\top} \left(\operatorname{diag}(\bar w) + F \odot (V^{\top} \bar V)\right) V^{\top}",),
        whole=True,
    ),
    fft=Formula(
        lambda t: (
            f"\\mathcal{{F}}_{{\\text{{{str(t.params.get('fft_type', 'fft')).rsplit('.', 1)[-1].lower()}}}}}(<x>)"
        ),
        (r"\mathcal{F}^{\top}(<c>)",),
    ),
)
