"""A derivation for people: Markdown for pages and notebooks, LaTeX, and lines of text for a terminal."""

from functional_dl.derivations.record import Record
from functional_dl.derivations.step import Step


def to_markdown(derivation: Record) -> str:
    """Title, statement, lines with their reasons, kinks, notes and source."""
    d = derivation
    parts = [f"## {d.title}", f"$$ {d.statement} $$"]
    heading = None
    for number, step in enumerate(d.steps, start=1):
        if len(d.chains) > 1 and d.chain_of(step) != heading:
            heading = d.chain_of(step)
            parts.append(f"### {chain_title(d, heading)}")
        parts.append(f"({number}) {step.reason}:\n\n$$ {step.latex} $$")
    parts += [f"Kink: {kink}" for kink in d.kinks]
    parts += [f"Note: {note}" for note in d.notes]
    parts.append(f"Source: {d.source}")
    return "\n\n".join(parts) + "\n"


def to_text(derivation: Record) -> str:
    """The derivation for a terminal: a line of mathematics, and its reason below it."""
    d = derivation
    parts = [d.title, "=" * len(d.title), "", d.statement]
    heading = None
    for number, step in enumerate(d.steps, start=1):
        if len(d.chains) > 1 and d.chain_of(step) != heading:
            heading = d.chain_of(step)
            parts += ["", chain_title(d, heading)]
        parts += ["", f"({number}) {step.latex}", f"    {step.reason}"]
    parts += [
        "",
        *(f"Kink: {kink}" for kink in d.kinks),
        *(f"Note: {note}" for note in d.notes),
        f"Source: {d.source}",
        "",
    ]
    return "\n".join(parts)


def to_latex(derivation: Record) -> str:
    """The statement and the lines as one display, a line a row."""
    rows = [rf"\textbf{{({number})}} & {_aligned(step)}" for number, step in enumerate(derivation.steps, start=1)]
    return "$$\\begin{array}{rl}" + " \\\\[10pt] ".join(rows) + "\\end{array}$$"


def chain_title(derivation: Record, chain: str) -> str:
    """What a chain derives, as a heading."""
    if derivation.fun is not None and chain in derivation.arguments:
        return f"With respect to `{chain}`"
    return chain[:1].upper() + chain[1:]


def _aligned(step: Step) -> str:
    return rf"\displaystyle {step.latex}"
