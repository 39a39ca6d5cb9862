"""An explanation as a LaTeX document."""

from __future__ import annotations

from functional_dl.explain.explanation import Explanation, Step
from functional_dl.explain.formulas import overview
from functional_dl.explain.formulas.ledger import quantity, share
from functional_dl.reverse.latex import escape

HEAD = r"""\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{amsmath, amssymb, booktabs, longtable}
\usepackage[margin=25mm]{geometry}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.6ex}
\begin{document}
"""
SECTIONS = ("section", "subsection", "subsubsection", "paragraph")


def render(explanation: Explanation) -> str:
    """The whole document: source, values, steps by group, costs."""
    e = explanation
    lines = [HEAD, f"\\section*{{Value and cotangents of \\texttt{{{escape(e.name)}}}}}"]
    if e.source and "\\end{verbatim}" not in e.source:
        lines += ["\\begin{verbatim}", _ascii(e.source.rstrip()), "\\end{verbatim}"]
    lines += [escape(overview.checks(e)) + ".", "", *_values(e)]
    before: tuple[str, ...] = ()
    for step in e.steps:
        lines += _headings(before, step.group)
        before = step.group
        lines += _step(step)
    lines += _costs(e)
    return "\n".join([*lines, "\\end{document}", ""])


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _headings(before: tuple[str, ...], group: tuple[str, ...]) -> list[str]:
    if not group and before:
        return ["\\section*{In the function itself}"]
    same = 0
    while same < min(len(before), len(group)) and before[same] == group[same]:
        same += 1
    return [f"\\{SECTIONS[min(d, 3)]}*{{{escape(group[d])}}}" for d in range(same, len(group))]


def _values(e: Explanation) -> list[str]:
    lines = ["\\begin{longtable}{lllrr}", "\\toprule", "value & & type & norm & cotangent's norm \\\\", "\\midrule"]
    for number in dict.fromkeys((*e.inputs, *e.outputs)):
        v = e.values[number]
        shape = " \\times ".join(map(str, v.shape)) or "1"
        norms = [f"{s.norm:.4g}" if s is not None else "" for s in (v.summary, v.ct_summary)]
        label = escape(v.label or v.name)
        lines.append(f"${v.latex}$ & \\texttt{{{label}}} & {escape(v.dtype)} ${shape}$ & {norms[0]} & {norms[1]} \\\\")
    return [*lines, "\\bottomrule", "\\end{longtable}"]


def _step(step: Step) -> list[str]:
    place = f" ({escape(step.source[0])})" if step.source else ""
    lines = [
        f"\\textbf{{{step.index}}} \\texttt{{{escape(step.title)}}}{place}",
        "\\begin{align*}",
        " \\\\\n".join(f"& {formula}" for formula in (step.forward_latex, *step.backward_latex)),
        "\\end{align*}",
    ]
    for fan_in in step.fan_ins:
        terms = ", ".join("the given cotangent" if t is None else f"step {t}" for t in fan_in.terms)
        lines.append(f"Fan-in sum: ${fan_in.latex}$, from {terms}.")
    if step.body:
        word = f"Its program, {step.trips} times (the last pass):" if step.trips > 1 else "Its program:"
        lines += [word, "\\begin{quote}"]
        lines += [line for below in step.body for line in _step(below)]
        lines.append("\\end{quote}")
    return lines


def _costs(e: Explanation) -> list[str]:
    total = e.ledger.forward_flops + e.ledger.backward_flops
    lines = [
        "\\section*{Costs}",
        "\\begin{longtable}{rlrrrr}",
        "\\toprule",
        "step & & forward & backward & share & kept \\\\",
        "\\midrule",
    ]
    for row in e.ledger.rows:
        title = escape(row.title if len(row.title) < 50 else row.title[:47] + "...")
        part = escape(share(row.flops + row.backward_flops, total))
        lines.append(
            f"{row.step} & \\texttt{{{title}}} & {quantity(row.flops)} & {quantity(row.backward_flops)} & {part} & "
            f"{quantity(row.bytes_kept, 'B')} \\\\"
        )
    return [
        *lines,
        "\\bottomrule",
        "\\end{longtable}",
        f"Value {quantity(e.ledger.forward_flops, 'FLOP')}, cotangents {quantity(e.ledger.backward_flops, 'FLOP')}, "
        f"together {e.ledger.ratio:.2f} times the value; {quantity(e.ledger.residual_bytes, 'B')} kept, "
        f"{quantity(e.ledger.peak_bytes, 'B')} alive at most.",
    ]
