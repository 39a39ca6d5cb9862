"""What a recorded function is to a backward sweep: equations with their slots, and the residuals that they read."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.reverse.values import as_array, instantiate


class Equation:
    """One applied primitive: outputs = primitive(*operands, **params), with the slots of its inputs and outputs."""

    __slots__ = ("inputs", "operands", "outputs", "params", "results", "rule", "source")
    inputs: list[Any]
    operands: list[Any]
    outputs: list[Any]
    params: dict[str, Any]
    results: list[Any]
    rule: Any
    source: Any

    def __init__(
        self,
        rule: Any,
        params: dict[str, Any],
        operands: list[Any],
        results: list[Any],
        inputs: list[Any],
        outputs: list[Any],
        source: Any = None,
    ) -> None:
        self.rule = rule
        self.params = params
        self.operands = operands
        self.results = results
        self.inputs = inputs
        self.outputs = outputs
        self.source = source

    @property
    def primitive(self) -> Primitive:
        return self.rule.primitive

    def pull(self, cts: list[Any]) -> Sequence[Any]:
        """The cotangents of the operands (arrays, thunks or None), given those of the outputs (None is zero)."""
        cts = [as_array(ct) for ct in cts]
        if self.rule.primitive.multiple_results:
            cts = [instantiate(ct, out) for ct, out in zip(cts, self.results)]
            return self.rule.formula(cts, self.results, *self.operands, **self.params)
        return self.rule.formula(cts[0], self.results[0], *self.operands, **self.params)

    def flatten(self, keep: Callable[[Any], Any]) -> "Equation":
        """The same equation with each value that the rule reads replaced by keep(value), the others by their types."""
        keep_out, *keep_operand = self.rule.kept(tuple(s is not None for s in self.inputs))
        operands = [keep(x) if k else jax.typeof(x) for k, x in zip(keep_operand, self.operands)]
        results = [keep(y) if keep_out else jax.typeof(y) for y in self.results]
        return Equation(self.rule, self.params, operands, results, self.inputs, self.outputs, self.source)

    def unflatten(self, fetch: Callable[[Any], Any]) -> "Equation":
        operands = [fetch(x) for x in self.operands]
        results = [fetch(y) for y in self.results]
        return Equation(self.rule, self.params, operands, results, self.inputs, self.outputs, self.source)


class Call:
    """An equation that was recorded together with its own pullback: cts -> pull_back(residuals, cts)."""

    __slots__ = ("inputs", "numbers", "outputs", "params", "primitive", "pull_back", "residuals", "source")
    inputs: list[Any]
    outputs: list[Any]
    params: dict[str, Any]
    primitive: Any
    pull_back: Any
    residuals: Any
    source: Any
    numbers: bool  # the pullback is a user's, and is given Python's numbers as they are

    def __init__(
        self,
        primitive: Any,
        pull_back: Callable[..., Any],
        residuals: Any,
        inputs: list[Any],
        outputs: list[Any],
        params: dict[str, Any] | None = None,
        source: Any = None,
        numbers: bool = False,
    ) -> None:
        self.numbers = numbers
        self.primitive = primitive
        self.pull_back = pull_back
        self.residuals = residuals
        self.inputs = inputs
        self.outputs = outputs
        self.params = params or {}
        self.source = source

    def pull(self, cts: list[Any]) -> Sequence[Any]:
        return self.pull_back(self.residuals, cts if self.numbers else [as_array(ct) for ct in cts])

    def _with(self, residuals) -> "Call":
        parts = (self.inputs, self.outputs, self.params, self.source, self.numbers)
        return Call(self.primitive, self.pull_back, residuals, *parts)

    def flatten(self, keep: Callable[..., Any]) -> "Call":
        leaves, treedef = tree_flatten(self.residuals)
        return self._with((treedef, [keep(leaf) for leaf in leaves]))

    def unflatten(self, fetch: Callable[..., Any]) -> "Call":
        treedef, leaves = self.residuals
        return self._with(tree_unflatten(treedef, [fetch(leaf) for leaf in leaves]))


class Residual:
    """Stands in a Program where a value stood: the position of that value among the residuals."""

    __slots__ = ("position",)
    position: int

    def __init__(self, position: int) -> None:
        self.position = position


class Program:
    """What a backward sweep needs besides the residuals: equations, and the slots of inputs and outputs.

    Static and compared by identity; `residuals` are given back to `at`.
    """

    __slots__ = ("equations", "inputs", "outputs")
    equations: list[Any]
    inputs: list[Any]
    outputs: list[Any]

    def __init__(self, equations: list[Any], inputs: list[Any], outputs: list[Any]) -> None:
        self.equations = equations
        self.inputs = inputs
        self.outputs = outputs

    def at(self, residuals: Sequence[Any]) -> list[Any]:
        """The equations with their residuals put back."""

        def fetch(x):
            return residuals[x.position] if type(x) is Residual else x

        return [equation.unflatten(fetch) for equation in self.equations]
