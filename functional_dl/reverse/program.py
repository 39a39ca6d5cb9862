"""What a recorded function is to a backward sweep: equations with their slots, and the residuals that they read."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.core import AbstractValue
from jax.extend.core import Primitive
from jax.extend.core.primitives import reshape_p
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.jaxprs import Structure, Unstructured, bind, frozen
from functional_dl.reverse.layout import PLAIN, Layout, Setting
from functional_dl.reverse.values import Reshaped, as_array, formed, instantiate
from functional_dl.sharding import type_of


class Equation:
    """One applied primitive: outputs = primitive(*operands, **params), with the slots of its inputs and outputs, and
    what was set around it."""

    __slots__ = ("inputs", "layout", "operands", "outputs", "params", "results", "rule", "setting", "source")
    inputs: list[Any]
    operands: list[Any]
    outputs: list[Any]
    params: dict[str, Any]
    layout: Layout | None
    results: list[Any]
    rule: Any
    setting: Setting
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
        layout: Layout | None = None,
        setting: Setting = PLAIN,
    ) -> None:
        self.rule = rule
        self.setting = setting
        self.layout = layout
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
        if self.rule.reshapes and self.layout is None and self._keeps_entries(cts[0]):
            return [Reshaped(cts[0].array, self.operands[0])]
        cts = [as_array(ct) for ct in cts]
        if self.layout is None:
            return self._formula((cts, self.results, self.operands))
        return self.layout.run(self._formula, (cts, self.results, self.operands), self.inputs, self.rule.explicit)

    def _keeps_entries(self, ct):
        """Whether the cotangent of the one operand is ct, yet to be reshaped, in another shape."""
        if type(ct) is not Reshaped or len(self.operands) > 1:
            return False
        transposed = self.rule.primitive is reshape_p and self.params["dimensions"] is not None
        return not transposed and self.operands[0].size == ct.array.size

    def _formula(self, values):
        cts, results, operands = values
        if self.rule.primitive.multiple_results:
            cts = [instantiate(ct, out) for ct, out in zip(cts, results)]
            return self.rule.formula(cts, results, *operands, **self.params)
        return self.rule.formula(cts[0], results[0], *operands, **self.params)

    def flatten(self, keep: Callable[[Any], Any]) -> "Equation":
        """The same equation with each value that the rule reads replaced by keep(value), the others by their types."""
        keep_out, *keep_operand = self.rule.kept(tuple(s is not None for s in self.inputs))
        operands = [keep(x) if k else type_of(x) for k, x in zip(keep_operand, self.operands)]
        results = [keep(y) if keep_out else type_of(y) for y in self.results]
        return self._with(operands, results)

    def _with(self, operands, results) -> "Equation":
        parts = (self.inputs, self.outputs, self.source, self.layout, self.setting)
        return Equation(self.rule, self.params, operands, results, *parts)

    def structure(self) -> tuple[Any, ...]:
        """What the equation does: equal for equations that do the same; see Program.structure."""
        if self.layout is not None:
            raise Unstructured("an equation on a mesh")
        params = tuple([(name, frozen(value)) for name, value in self.params.items()])
        values = tuple(map(_place, self.operands)), tuple(map(_place, self.results))
        return self.rule, params, values, tuple(self.inputs), tuple(self.outputs), self.setting.meaning

    def towards(self, inputs: list[Any]) -> "Equation":
        """The same equation, asked for the cotangents of these inputs."""
        parts = (self.operands, self.results, inputs, self.outputs, self.source, self.layout, self.setting)
        return Equation(self.rule, self.params, *parts)

    def unflatten(self, fetch: Callable[[Any], Any]) -> "Equation":
        operands = [fetch(x) for x in self.operands]
        results = [fetch(y) for y in self.results]
        return self._with(operands, results)


class Call:
    """An equation that was recorded together with its own pullback: cts -> pull_back(residuals, cts).

    `explicit` is said of it as of a Rule.
    """

    __slots__ = (
        "explicit",
        "inputs",
        "layout",
        "numbers",
        "outputs",
        "params",
        "primitive",
        "pull_back",
        "residuals",
        "setting",
        "source",
    )
    explicit: bool
    inputs: list[Any]
    outputs: list[Any]
    params: dict[str, Any]
    layout: Layout | None
    primitive: Any
    pull_back: Any
    residuals: Any
    setting: Setting
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
        layout: Layout | None = None,
        explicit: bool = True,
        numbers: bool = False,
        setting: Setting = PLAIN,
    ) -> None:
        self.explicit = explicit
        self.setting = setting
        self.numbers = numbers
        self.primitive = primitive
        self.layout = layout
        self.pull_back = pull_back
        self.residuals = residuals
        self.inputs = inputs
        self.outputs = outputs
        self.params = params or {}
        self.source = source

    def pull(self, cts: list[Any]) -> Sequence[Any]:
        cts = [formed(ct) if self.numbers else as_array(ct) for ct in cts]
        if self.layout is None:
            return self.pull_back(self.residuals, cts)
        values = self.residuals, cts
        return self.layout.run(lambda values: self.pull_back(*values), values, self.inputs, self.explicit)

    def _with(self, residuals) -> "Call":
        parts = (
            self.inputs,
            self.outputs,
            self.params,
            self.source,
            self.layout,
            self.explicit,
            self.numbers,
            self.setting,
        )
        return Call(self.primitive, self.pull_back, residuals, *parts)

    def towards(self, inputs: list[Any]) -> "Call":
        """The same equation, asked for the cotangents of these inputs."""
        parts = (self.outputs, self.params, self.source, self.layout, self.explicit, self.numbers, self.setting)
        return Call(self.primitive, self.pull_back, self.residuals, inputs, *parts)

    def flatten(self, keep: Callable[..., Any]) -> "Call":
        leaves, treedef = tree_flatten(self.residuals)
        return self._with((treedef, [keep(leaf) for leaf in leaves]))

    def structure(self) -> tuple[Any, ...]:
        """As for an Equation."""
        if self.layout is not None or self.numbers:
            raise Unstructured("a call on a mesh, or of a user's own pullback")
        treedef, leaves = self.residuals
        slots = tuple(self.inputs), tuple(self.outputs)
        return frozen(self.pull_back), treedef, tuple(map(_place, leaves)), *slots, self.setting.meaning

    def unflatten(self, fetch: Callable[..., Any]) -> "Call":
        treedef, leaves = self.residuals
        return self._with(tree_unflatten(treedef, [fetch(leaf) for leaf in leaves]))


class Residual:
    """Stands in a Program where a value stood: the position of that value among the residuals; in a Recipe also the
    step that computes it, and which of the step's outputs it is."""

    __slots__ = ("position",)
    position: Any

    def __init__(self, position: Any) -> None:
        self.position = position


def _place(x):
    """What stands for a value in an equation's structure: a residual's position, a type, a number."""
    if type(x) is Residual:
        return x.position
    return x if isinstance(x, AbstractValue) else frozen(x)


class Recipe:
    """How a program's residuals come back from fewer that were kept; see reverse.residuals.

    Attributes:
      steps: (primitive, params, operands), in their order.
      residuals: where each of the program's residuals is.
    """

    __slots__ = ("residuals", "steps")
    residuals: list[Any]
    steps: list[tuple[Primitive, Any, list[Any]]]

    def __init__(self, steps: list[tuple[Primitive, Any, list[Any]]], residuals: list[Any]) -> None:
        self.steps = steps
        self.residuals = residuals

    def run(self, kept: Sequence[Any]) -> list[Any]:
        """All residuals, from those that were kept."""
        made: list = []

        def fetch(x):
            if type(x) is not Residual:
                return x
            return kept[x.position] if isinstance(x.position, int) else made[x.position[0]][x.position[1]]

        for primitive, params, operands in self.steps:
            made.append(bind(primitive, [fetch(x) for x in operands], params))
        return [fetch(x) for x in self.residuals]


class Program:
    """What a backward sweep needs besides the residuals: equations, and the slots of inputs and outputs.

    Static and compared by identity; `residuals` are given back to `at`.
    """

    __slots__ = ("equations", "inputs", "outputs", "recipe")
    equations: list[Any]
    inputs: list[Any]
    outputs: list[Any]
    recipe: Recipe | None

    def __init__(
        self, equations: list[Any], inputs: list[Any], outputs: list[Any], recipe: Recipe | None = None
    ) -> None:
        self.equations = equations
        self.inputs = inputs
        self.outputs = outputs
        self.recipe = recipe

    def structure(self) -> Structure | None:
        """What the program does with its residuals, equal for programs that do the same; None where it is not known."""
        if self.recipe is not None:
            return None
        try:
            return Structure(*[e.structure() for e in self.equations], tuple(self.inputs), tuple(self.outputs))
        except TypeError:
            return None

    def at(self, residuals: Sequence[Any]) -> list[Any]:
        """The equations with their residuals put back; what was not kept is computed again."""
        if self.recipe is not None:
            residuals = self.recipe.run(residuals)

        def fetch(x):
            return residuals[x.position] if type(x) is Residual else x

        return [equation.unflatten(fetch) for equation in self.equations]

    def towards(self, wanted: Sequence[bool]) -> "Program":
        """The program that asks for the cotangents of the wanted inputs alone: of the equations those that lie between
        them and the outputs, and of these the operands that do."""
        inputs = [slot if w else None for slot, w in zip(self.inputs, wanted)]
        live: set = set(inputs)
        between = []
        for equation in self.equations:
            if any(slot in live for slot in equation.inputs if slot is not None):
                live.update(equation.outputs)
                between.append(equation.towards([slot if slot in live else None for slot in equation.inputs]))
        return Program(between, inputs, self.outputs, self.recipe)
