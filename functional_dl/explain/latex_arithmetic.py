"""Formulas of sums, products, powers and elementwise comparisons."""

from __future__ import annotations

from functional_dl.explain.latex import Formula, Terms, bar, entries, number, operator


def _sum_like(terms: Terms) -> str:
    return " + ".join(terms.xs)


def _power(terms: Terms) -> str:
    return f"<x>^{{{terms.params['y']}}}"


def _power_back(terms: Terms) -> str:
    n = terms.params["y"]
    if n == 2:
        return r"2\, <c> \odot <x>"
    return f"{number(n)}\\, <c> \\odot <x>^{{{n - 1}}}"


entries(
    add=("<0> + <1>", "<c>", "<c>"),
    add_any=("<0> + <1>", "<c>", "<c>"),
    sub=("<0> - <1>", "<c>", "-<c>"),
    neg=("-<x>", "-<c>"),
    mul=(r"<0> \odot <1>", r"<c> \odot <1>", r"<c> \odot <0>"),
    div=(r"<0> / <1>", r"<c> / <1>", r"-<c> \odot <y> / <1>"),
    square=("<x>^2", r"2\, <c> \odot <x>"),
    sqrt=(r"\sqrt{<x>}", r"\frac{<c>}{2 <y>}"),
    rsqrt=(r"\frac{1}{\sqrt{<x>}}", r"-\tfrac12\, <c> \odot \frac{<y>}{<x>}"),
    cbrt=(r"\sqrt[3]{<x>}", r"\frac{<c>}{3 <y>^2}"),
    integer_pow=(_power, _power_back),
    pow=(r"<0>^{<1>}", r"<c> \odot <1> \odot <0>^{<1> - 1}", r"<c> \odot <y> \odot \ln <0>"),
    rem=(r"<0> \bmod <1>", "<c>", r"-<c> \odot \operatorname{trunc}(<0> / <1>)"),
    nextafter=(r"\operatorname{nextafter}(<0>, <1>)", "<c>", "0"),
    max=(r"\max(<0>, <1>)", r"<c> \odot [<0> > <1>]", r"<c> \odot [<1> > <0>]"),
    min=(r"\min(<0>, <1>)", r"<c> \odot [<0> < <1>]", r"<c> \odot [<1> < <0>]"),
    abs=(r"|<x>|", r"<c> \odot \operatorname{sign} <x>"),
    sign=(r"\operatorname{sign} <x>",),
    floor=(r"\lfloor <x> \rfloor",),
    ceil=(r"\lceil <x> \rceil",),
    round=(r"\operatorname{round} <x>",),
    clamp=(
        r"\min(\max(<1>, <0>), <2>)",
        r"<c> \odot [<1> < <0>]",
        r"<c> \odot [<0> < <1> < <2>]",
        r"<c> \odot [<1> > <2>]",
    ),
    eq=("[<0> = <1>]",),
    ne=(r"[<0> \ne <1>]",),
    lt=("[<0> < <1>]",),
    le=(r"[<0> \le <1>]",),
    gt=("[<0> > <1>]",),
    ge=(r"[<0> \ge <1>]",),
    stop_gradient=(r"\operatorname{constant}(<x>)",),
    is_finite=(r"[\,|<x>| < \infty\,]",),
    real=(r"\operatorname{Re} <x>", r"<c>"),
    imag=(r"\operatorname{Im} <x>", r"-i\, <c>"),
    conj=(r"<x>^{*}", r"<c>^{*}"),
    complex=(r"<0> + i <1>", r"\operatorname{Re} <c>", r"-\operatorname{Im} <c>"),
)


def _cases(terms: Terms) -> str:
    which, *cases = terms.xs
    if len(cases) == 2:
        both = f"{cases[1]} & \\text{{where }} {which} \\\\ {cases[0]} & \\text{{elsewhere}}"
        return f"\\begin{{cases}} {both} \\end{{cases}}"
    lines = r" \\ ".join(f"{case} & \\text{{where }} {which} = {i}" for i, case in enumerate(cases))
    return f"\\begin{{cases}} {lines} \\end{{cases}}"


def _case_back(terms: Terms) -> str:
    which, count = terms.xs[0], len(terms.xs) - 1
    if count == 2:
        return f"<c> \\odot [{which}]" if terms.place == 2 else f"<c> \\odot [\\lnot {which}]"
    return f"<c> \\odot [{which} = {terms.place - 1}]"


entries(select_n=Formula(_cases, ("0", _case_back)))


RELU = (r"\max(<x>, 0)", r"<c> \odot [<x> > 0]")
SOFTMAX_BACK = r"<y> \odot \left(<c> - \textstyle\sum <c> \odot <y>\right)"


def _custom(terms: Terms) -> str:
    name = terms.label.strip("_")
    if name == "relu":
        return RELU[0]
    if name == "relu6":
        return r"\min(\max(<x>, 0), 6)"
    shown = [x for x in terms.xs if x]
    return f"{operator(name or 'f')}({', '.join(shown)})"


def _custom_back(terms: Terms) -> str:
    name = terms.label.strip("_")
    if name == "relu":
        return RELU[1]
    if name == "relu6":
        return r"<c> \odot [0 < <x> < 6]"
    if name == "softmax":
        return SOFTMAX_BACK
    if name == "logsumexp":
        return r"<c> \odot \operatorname{softmax}(<x>)"
    return _jacobian(terms)


def _jacobian(terms: Terms) -> str:
    return " + ".join(f"\\left(\\frac{{\\partial {y}}}{{\\partial <s>}}\\right)^{{\\top}} {bar(y)}" for y in terms.ys)


def _user_back(terms: Terms) -> str:
    """A cotangent that the user's own backward pass returns."""
    name = terms.label.strip("_") or "f"
    cts = ", ".join(bar(y) for y in terms.ys)
    return f"\\operatorname{{{_safe(name)}{{\\text{{-}}}}bwd}}_{{{terms.place}}}({cts})"


def _safe(name: str) -> str:
    return name.replace("_", r"\_")


entries(
    custom_jvp_call=Formula(_custom, (_custom_back,)),
    custom_vjp_call=Formula(_custom, (_user_back,)),
)
