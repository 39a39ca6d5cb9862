"""What a check found: findings, and a report that prints, becomes JSON, or becomes a page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from functional_dl import pages

CAUSES = (
    "primal", "structure", "dtype", "nonfinite", "nondeterministic", "ignored_cotangent", "nonlinear", "zero", "sign",
    "scale", "transpose", "swapped", "missing_reduction", "overwrite", "missing_term", "missing_factor", "mask_missing",
    "not_transposed", "accumulated", "wrong_point", "wrong_branch", "shifted", "missing_conjugate", "kink", "precision",
    "unknown",
)  # fmt: skip

ADVICE = {
    "primal": "compare the forward pass of the custom rule with fun itself.",
    "structure": "return a tuple with one cotangent for each primal, of its tree and shape.",
    "dtype": "cast each cotangent to the dtype of its primal.",
    "nonfinite": "look for a division by zero, an overflow, or 0 * inf in the backward pass.",
    "nondeterministic": "look for random numbers, or state that one call leaves for the next.",
    "ignored_cotangent": "multiply by the incoming cotangent.",
    "nonlinear": "the backward pass must be linear in the cotangent: no square, clip, or normalisation of it.",
    "zero": "look for a stop_gradient, a detached value, or an argument that was forgotten.",
    "sign": "look for a subtraction whose second operand lost its minus.",
    "scale": "look for a forgotten factor: a mean's 1/n, a square's 2, a loss's 1/2.",
    "transpose": "look at the order of axes: W^T or W, and which axis a matrix product sums over.",
    "swapped": "look at the order in which cotangents are returned.",
    "missing_reduction": "sum the cotangent over every axis along which the argument was broadcast.",
    "overwrite": "add where an element is used more than once (scatter-add), do not set.",
    "missing_term": "look for a path from the argument to the output that the backward pass leaves out.",
    "missing_factor": "look for a factor of the chain rule that depends on the data: a gain, the exp of an exp.",
    "mask_missing": "apply the forward pass's mask to the cotangent.",
    "not_transposed": "multiply by the transposed Jacobian: W^T, the inverse permutation, the sum run backwards.",
    "accumulated": "clear the buffer before each backward pass; return a new array, do not add to an old one.",
    "wrong_point": "look at which saved value the derivative is evaluated at: input or output, before or after.",
    "wrong_branch": "look at the condition, mask or bound: which way it points, and < or <=.",
    "shifted": "look at padding and slice bounds: one is off by one.",
    "missing_conjugate": "look for a complex conjugate that is missing, or one too many.",
    "kink": "at a kink return a value between the one-sided derivatives.",
    "precision": "look for a difference of nearly equal numbers, or a sum held in too few digits.",
    "unknown": "compare term by term with the derivation.",
}

# what shows alike, the likeliest first: named after what the evidence itself names
ALIKE = {
    "scale": ("missing_reduction", "missing_term"),
    "missing_reduction": ("scale", "overwrite", "missing_term"),
    "overwrite": ("missing_reduction", "missing_term"),
    "missing_term": ("missing_factor", "wrong_point"),
    "missing_factor": ("wrong_point", "missing_term"),
    "mask_missing": ("wrong_branch", "missing_factor"),
    "not_transposed": ("transpose", "wrong_point"),
    "accumulated": ("nondeterministic", "nonlinear"),
    "wrong_point": ("missing_factor", "missing_term"),
    "wrong_branch": ("mask_missing", "wrong_point"),
    "transpose": ("not_transposed", "wrong_point"),
    "shifted": ("wrong_point", "not_transposed"),
    "swapped": ("wrong_branch", "wrong_point"),
    "sign": ("scale", "missing_conjugate"),
    "zero": ("wrong_branch", "missing_term"),
    "precision": ("missing_term", "wrong_point"),
    "missing_conjugate": ("sign", "wrong_point"),
    "kink": ("wrong_branch",),
    "nonfinite": ("wrong_branch", "wrong_point"),
    "nonlinear": ("accumulated", "ignored_cotangent"),
    "nondeterministic": ("accumulated",),
    "ignored_cotangent": ("nonlinear", "wrong_point"),
}


@dataclass(frozen=True)
class Finding:
    """One fault.

    Fields:
      cause: one of CAUSES.
      argument: path of the primal whose cotangent is wrong, such as args[0]['w']; "" where it is none's alone.
      index: the worst entry, None where no entry is meant.
      expected, actual: values there; error: |actual - expected|; tolerance: what was allowed.
      message: the cause as a sentence, with its numbers.
      candidates: up to three causes, the most likely first.
    """

    cause: str
    argument: str
    message: str
    index: tuple[int, ...] | None = None
    expected: complex | float | None = None
    actual: complex | float | None = None
    error: float | None = None
    tolerance: float | None = None
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.argument or 'all arguments'}: {self.cause}", f"  {self.message}"]
        if self.index is not None:
            at = f"[{', '.join(map(str, self.index))}]" if self.index else ""
            lines.append(
                f"  worst at {self.argument}{at}: expected {_number(self.expected)}, got {_number(self.actual)}"
                f" (error {_number(self.error)}, allowed {_number(self.tolerance)})"
            )
        others = self.candidates[1:]
        if others:
            lines.append(f"  less likely: {', '.join(others)}")
        lines.append(f"  next: {ADVICE[self.cause]}")
        return "\n".join(lines)


def without_index(cause: str, argument: str, message: str) -> Finding:
    """A finding on the form or the behaviour of a pullback, which no single entry shows."""
    return Finding(cause, argument, message, candidates=(cause, *ALIKE.get(cause, ())))


@dataclass(frozen=True)
class Argument:
    """Figures of one argument: kept for the table and the picture of a report."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    worst: float  # largest error in units of its tolerance
    wrong: int  # entries beyond their tolerance
    share: float = 0.0  # |actual - expected| over the size of the terms that the entries sum, both of the whole leaf
    ratio: np.ndarray | None = field(default=None, repr=False)  # error / tolerance, entry by entry


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Fields:
      name: what was checked.
      findings: the faults, none if it passed.
      arguments: figures of every differentiable argument.
      reference: where the right cotangents came from.
      comparisons: how many numbers were compared.
      notes: what else a reader should know.
    """

    name: str
    findings: tuple[Finding, ...]
    arguments: tuple[Argument, ...] = ()
    reference: str = ""
    comparisons: int = 0
    notes: tuple[str, ...] = ()

    @property
    def causes(self) -> str:
        """The causes by argument, three at most, as in "args[0]: sign, args[1]: scale"."""
        named = list(dict.fromkeys(f"{f.argument or 'all arguments'}: {f.cause}" for f in self.findings))
        return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")

    @property
    def passed(self) -> bool:
        """Whether no fault was found."""
        return not self.findings

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"FAILED, {self.causes}"
        lines = [f"{self.name}: {verdict}  ({self.comparisons} numbers against {self.reference or 'nothing'})"]
        lines += [str(finding) for finding in self.findings]
        good = [a.path for a in self.arguments if not a.wrong and not any(f.argument == a.path for f in self.findings)]
        if good and not self.passed:
            lines.append(f"right: {', '.join(good)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[Any, Any]:
        """Plain data: what to_json writes."""
        return {
            "name": self.name,
            "passed": self.passed,
            "reference": self.reference,
            "comparisons": self.comparisons,
            "notes": list(self.notes),
            "findings": [{name: _plain(value) for name, value in vars(f).items()} for f in self.findings],
            "arguments": [
                {"path": a.path, "shape": list(a.shape), "dtype": a.dtype, "worst": _plain(a.worst), "wrong": a.wrong}
                for a in self.arguments
            ],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON text; written to `path` too, if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Report":
        """The report that `to_dict` wrote, without the maps of errors; numbers are as they were written."""
        findings = tuple(
            Finding(**{**f, "index": None if f["index"] is None else tuple(f["index"]),
                       **{name: _number_of(f[name]) for name in ("expected", "actual", "error", "tolerance")},
                       "candidates": tuple(f["candidates"])})
            for f in data["findings"]
        )  # fmt: skip
        arguments = tuple(
            Argument(a["path"], tuple(a["shape"]), a["dtype"], float(a["worst"]), a["wrong"]) for a in data["arguments"]
        )
        return cls(data["name"], findings, arguments, data["reference"], data["comparisons"], tuple(data["notes"]))

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as a page that needs nothing else, with a map of the errors; written to `path` too, if given.

        Without jinja2 it is the report's text.
        """
        text = page(self.name, [self])
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _repr_html_(self) -> str | None:
        """The page; None, whereupon a notebook shows the text, where jinja2 is not installed."""
        return page(self.name, [self]) if pages.has_templates() else None


class GradientMismatch(AssertionError):
    """A backward pass is wrong.  `report` says how."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def _number(x) -> str:
    if x is None:
        return "-"
    return f"{x:.6g}"


def _plain(x):
    """x as JSON has it: NaN and infinities as text, complex numbers as pairs."""
    if x is None or isinstance(x, str):
        return x
    if isinstance(x, tuple):
        return list(x)
    if isinstance(x, complex) or np.iscomplexobj(x):
        return [_plain(float(np.real(x))), _plain(float(np.imag(x)))]
    x = float(x)
    return x if np.isfinite(x) else str(x)


def _number_of(x) -> complex | float | None:
    """The number that _plain wrote."""
    return None if x is None else complex(*map(float, x)) if isinstance(x, list) else float(x)


# --- the page ---------------------------------------------------------------------------------------------------------

_CELLS = 64  # rows and columns of the map, at most


def page(title: str, reports: Sequence[Report]) -> str:
    """One document that shows several reports; the reports as text where jinja2 is not installed."""
    return pages.render(
        pages.asset("report.html", __package__),
        title=title,
        text="\n\n".join(map(str, reports)),
        style=pages.asset("report.css", __package__),
        reports=[(report, _map(report)) for report in reports],
        number=_number,
        advice=ADVICE,
    )


def _map(report: Report) -> dict[str, Any] | None:
    """Error over tolerance of the worst argument as squares, the worst of each block; leading axes are rows."""
    worst = max(report.arguments, key=lambda a: a.worst if np.isfinite(a.worst) else np.inf, default=None)
    if worst is None or worst.ratio is None or worst.ratio.size < 2 or not worst.wrong:
        return None
    ratio = np.nan_to_num(np.asarray(worst.ratio, float), nan=np.inf, posinf=np.inf)
    grid = ratio.reshape(-1, ratio.shape[-1]) if ratio.ndim > 1 else ratio.reshape(1, -1)
    grid = _worst_of_blocks(_worst_of_blocks(grid, 0), 1)
    heat = np.where(grid <= 1, 0.06, np.minimum(1.0, 0.25 + np.log10(np.clip(grid, 1, 1e12)) / 12))
    cells = [(i, j, f"{heat[i, j]:.2f}", f"{value:.3g}") for (i, j), value in np.ndenumerate(grid)]
    return {"path": worst.path, "rows": grid.shape[0], "columns": grid.shape[1], "cells": cells}


def _worst_of_blocks(grid, axis):
    length = grid.shape[axis]
    if length <= _CELLS:
        return grid
    edges = np.linspace(0, length, _CELLS + 1).astype(int)[:-1]
    return np.maximum.reduceat(grid, edges, axis=axis)


def merged(name: str, reports: Sequence[Report]) -> Report:
    """Several reports as one."""
    return Report(
        name,
        tuple(f for r in reports for f in r.findings),
        tuple(a for r in reports for a in r.arguments),
        "; ".join(dict.fromkeys(r.reference for r in reports if r.reference)),
        sum(r.comparisons for r in reports),
        tuple(dict.fromkeys(n for r in reports for n in r.notes)),
    )
