"""What an explanation consists of: values, steps, groups, ledger.  Data alone, and the ways to show it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx


def view(module: str, function: str = "render") -> Callable[..., Any]:
    """The function that shows an explanation in some way; its file is loaded when it is first asked for."""
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)


@dataclass(frozen=True)
class Summary:
    """Numbers about an array; NaN and infinities are counted and left out of the others.

    Fields:
      norm: Euclidean norm.
      low, high: least and greatest entry (of the absolute values, where they are complex).
      nonfinite: how many entries are NaN or infinite.
      mean: arithmetic mean (of the absolute values, where they are complex).
      special: what the entries that are not finite are, as "2 of -inf, 1 of nan".
    """

    norm: float
    low: float
    high: float
    nonfinite: int
    mean: float
    special: str = ""


@dataclass(frozen=True)
class Value:
    """An array that the function takes, makes or returns.

    Fields:
      id: its number, unique in the explanation.
      name: a Python identifier, unique in the explanation.
      latex: the same name in LaTeX.
      shape, dtype, bytes: its type.
      role: "input", "constant", "intermediate" or "output".
      summary: of the value; None where values were not asked for.
      ct_summary: of its cotangent; None where it has none.
      kept: whether it is a residual: kept from the forward for the backward sweep.
      differentiated: whether its cotangent is asked for, or a cotangent flows through it.
      label: the argument's path or the user's own variable, "" where there is none.
      text: the numbers themselves where they are few.
      ct_text: those of the cotangent.
    """

    id: int
    name: str
    latex: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    role: str
    summary: Summary | None = None
    ct_summary: Summary | None = None
    kept: bool = False
    differentiated: bool = False
    label: str = ""
    text: str = ""
    ct_text: str = ""


@dataclass(frozen=True)
class Check:
    """A step's rule, at the step's own values, against oracles.

    Fields:
      passed: whether the error is within the tolerance.
      error: the largest, relative to the size of what is compared.
      tolerance: what rounding allows, relative too.
      oracle: which one is the worst off.
    """

    passed: bool
    error: float
    tolerance: float
    oracle: str


@dataclass(frozen=True)
class FanIn:
    """A value whose cotangent is a sum over several paths.

    Fields:
      value: the value's id.
      terms: for each term of the sum, the index of the step that it comes from (None: from the outside, the
        cotangent that was given), in the order of summation.
      latex: the sum.
    """

    value: int
    terms: tuple[int | None, ...]
    latex: str


@dataclass(frozen=True)
class Step:
    r"""One equation, forward and backward.

    Fields:
      index: its place in the forward order; steps of a body have indices of their own, unique in the explanation.
      primitive: the primitive's name.
      source: places in the user's source, innermost first, as "file.py:12".
      line: the text of the first of these lines.
      group: scopes and functions that the step stands in, outermost first.
      inputs, outputs: ids of values.
      forward_latex: y = f(x).
      backward_latex: one equation for each differentiable input, "\bar x \mathrel{+}= ...".
      derivation: the rule's docstring, with its mathematics.
      linear: whether the outputs are linear in the differentiated inputs (together).
      flops, backward_flops: floating-point operations.
      bytes_kept: residuals that are kept for this step's pullback (and for no earlier step's).
      check: None where the step has no derivative, or checks were not asked for.
      body: steps of the program inside a loop or a branch, else empty; of a loop, its last pass.
      fan_ins: values whose cotangent is complete here, a sum over several paths.
      title: the step in a few words, as "h = tanh(z)".
      label: the name of a called function with a derivative of its own, as "softmax", else "".
      trips: how often the body runs (1 where there is no loop).
      arguments: ids of the values that the body takes, in its order.
    """

    index: int
    primitive: str
    source: tuple[str, ...]
    line: str
    group: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    forward_latex: str
    backward_latex: tuple[str, ...]
    derivation: str
    linear: bool
    flops: int
    backward_flops: int
    bytes_kept: int
    check: Check | None = None
    body: tuple[Step, ...] = ()
    fan_ins: tuple[FanIn, ...] = ()
    title: str = ""
    label: str = ""
    trips: int = 1
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class Group:
    """A function or scope: some steps of its own, and further groups.

    Fields:
      name: the function's or scope's name; names of neighbours are told apart by a number.
      path: names from the outermost to this.
      steps: indices of the steps directly in it.
      children: groups in it.
      flops, backward_flops, bytes_kept: totals of all steps in it and below.
    """

    name: str
    path: tuple[str, ...]
    steps: tuple[int, ...]
    children: tuple[Group, ...]
    flops: int
    backward_flops: int
    bytes_kept: int

    def __repr__(self) -> str:
        return f"Group({'/'.join(self.path)}: {len(self.all_steps())} steps, {len(self.children)} groups)"

    def all_steps(self) -> tuple[int, ...]:
        """Indices of the steps in it and below, in forward order."""
        below = [i for child in self.children for i in child.all_steps()]
        return tuple(sorted([*self.steps, *below]))


@dataclass(frozen=True)
class Row:
    """A step in the ledger."""

    step: int
    title: str
    flops: int
    backward_flops: int
    bytes_kept: int


@dataclass(frozen=True, repr=False)
class Ledger:
    """What the value and its cotangents cost.

    Fields:
      forward_flops, backward_flops: floating-point operations, one per entry of an elementwise operation, as XLA
        counts.
      ratio: (forward + backward) / forward.
      residual_bytes: kept from the forward for the backward pass, without arguments and constants.
      peak_bytes: the most that is alive at once, each step run in order and each value dropped after its last use.
      xla_flops: XLA's own count for the compiled program, None where it was not asked for.
      rows: the steps.
    """

    forward_flops: int
    backward_flops: int
    ratio: float
    residual_bytes: int
    peak_bytes: int
    xla_flops: float | None
    rows: tuple[Row, ...]

    def __repr__(self) -> str:
        return (
            f"Ledger({len(self.rows)} steps, {self.forward_flops} flops forward, {self.backward_flops} backward, "
            f"{self.residual_bytes} bytes kept, {self.peak_bytes} at most)"
        )

    def to_markdown(self) -> str:
        """A table of the steps with their share, and the totals."""
        return view("formulas.ledger", "to_markdown")(self)


@dataclass(frozen=True, repr=False)
class Explanation:
    """A function's value and cotangents, step by step.

    Fields:
      name: the function's.
      values: by id.
      steps: in forward order; steps inside of loops are in their `body`.
      groups: the outline; steps in no group are in `loose`.
      inputs, outputs: ids of values: the arguments' leaves, and the result's.
      ledger: costs.
      source: text of the function, "" where it is not available.
      loose: steps that stand in the function itself.
      tree: the outline from the root.
      recipe: what `to_python` and the ledger's XLA count run again.
    """

    values: dict[int, Value]
    steps: tuple[Step, ...]
    groups: tuple[Group, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ledger: Ledger
    source: str
    name: str = "f"
    loose: tuple[int, ...] = ()
    recipe: Any = field(default=None, repr=False, compare=False)

    def all_steps(self) -> dict[int, Step]:
        """Every step by its index, those of bodies too."""
        found: dict[int, Step] = {}

        def visit(steps):
            for step in steps:
                found[step.index] = step
                visit(step.body)

        visit(self.steps)
        return found

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(step.check.passed for step in self.all_steps().values() if step.check is not None)

    @property
    def graph(self) -> networkx.MultiDiGraph:
        """Values and steps as nodes; edges forward and backward, with their bytes.  `graph.to_dot()` is Graphviz's."""
        return view("page.graph", "build")(self)

    def to_markdown(self) -> str:
        """The explanation as a Markdown text with formulas."""
        return view("formulas.markdown")(self)

    def to_latex(self) -> str:
        """The explanation as a whole LaTeX document."""
        return view("formulas.document")(self)

    def to_python(self, line_length: int = 120) -> str:
        """The forward and backward pass as a Python module over jax.numpy and jax.lax, which can be run."""
        return view("source.python")(self, line_length)

    def to_html(self, path: str | Path | None = None) -> str:
        """The explanation as a page, written to `path` too."""
        return view("page.html", "to_html")(self, path)

    def _repr_html_(self) -> str | None:
        """The page in a frame, for notebooks; None, whereupon a notebook shows the text, where it cannot be made."""
        return view("page.html", "notebook")(self)

    def __str__(self) -> str:
        return view("formulas.overview")(self)

    def __repr__(self) -> str:
        checked = [step.check for step in self.all_steps().values() if step.check is not None]
        parts = f"{len(self.inputs)} inputs, {len(self.steps)} steps, {len(self.outputs)} outputs"
        passed = f"{sum(check.passed for check in checked)} of {len(checked)} checks passed"
        return f"Explanation({self.name}: {parts}, {passed}; print it, or .to_html(path))"
