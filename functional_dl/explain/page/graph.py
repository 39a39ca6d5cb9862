"""The computational graph: values and steps as nodes, forward and backward edges with their bytes."""

from __future__ import annotations

from typing import Any

from functional_dl import arguments
from functional_dl.explain.explanation import Explanation, Step


def build(explanation: Explanation) -> Any:
    """A networkx.MultiDiGraph with one method more, `to_dot()`.

    Nodes ("value", id) and ("step", index) carry `label`, `kind` and what the explanation says of them.  An edge's
    `direction` is "forward" (value -> step that reads it, step -> value that it makes) or "backward" (the same pairs
    the other way, where a cotangent flows); `bytes` is what flows along it.

    Raises:
      ImportError: networkx is not installed.
    """
    try:
        import networkx
    except ImportError as error:
        raise ImportError(arguments.missing("networkx", "a computational graph", "pages")) from error

    class Graph(networkx.MultiDiGraph):
        """A computational graph."""

        def to_dot(self) -> str:
            """The graph in Graphviz's language."""
            return to_dot(self)

        def __repr__(self) -> str:
            kinds = [str(kind) for _, kind in self.nodes(data="kind")]
            counted = f"{kinds.count('value')} values, {kinds.count('step')} steps, {self.number_of_edges()} edges"
            return f"Graph({self.name}: {counted})"

    graph = Graph(name=explanation.name)
    for value in explanation.values.values():
        graph.add_node(
            ("value", value.id), kind="value", label=value.name, latex=value.latex, role=value.role,
            shape=value.shape, dtype=value.dtype, bytes=value.bytes,
        )  # fmt: skip
    for step in explanation.all_steps().values():
        _add(graph, explanation, step)
    return graph


def _add(graph, explanation: Explanation, step: Step) -> None:
    node = ("step", step.index)
    graph.add_node(
        node, kind="step", label=step.label or step.primitive, title=step.title, group=step.group, flops=step.flops,
        backward_flops=step.backward_flops,
    )  # fmt: skip
    back = len(step.backward_latex) > 0
    for position, number in enumerate(step.inputs):
        value = explanation.values[number]
        graph.add_edge(("value", number), node, direction="forward", bytes=value.bytes, position=position)
        if back and value.differentiated and number in _receivers(explanation, step):
            graph.add_edge(node, ("value", number), direction="backward", bytes=value.bytes, position=position)
    for position, number in enumerate(step.outputs):
        value = explanation.values[number]
        graph.add_edge(node, ("value", number), direction="forward", bytes=value.bytes, position=position)
        if back and value.differentiated:
            graph.add_edge(("value", number), node, direction="backward", bytes=value.bytes, position=position)


def _receivers(explanation: Explanation, step: Step) -> set[int]:
    """Inputs that the step gives a cotangent to."""
    return {n for n in step.inputs if explanation.values[n].differentiated}


def to_dot(graph: Any) -> str:
    """Graphviz's source: forward edges solid, backward ones dashed, wider for more bytes."""
    lines = [f"digraph {quoted(graph.graph.get('name', 'f'))} {{", "  rankdir=TB;", "  node [fontsize=10];"]
    for node, data in graph.nodes(data=True):
        shape = "box" if data["kind"] == "step" else "ellipse"
        lines.append(f"  {_id(node)} [shape={shape}, label={quoted(data['label'])}];")
    for start, end, data in graph.edges(data=True):
        width = 0.5 + 0.25 * len(str(data["bytes"]))
        style = "dashed, color=firebrick, constraint=false" if data["direction"] == "backward" else "solid"
        lines.append(f"  {_id(start)} -> {_id(end)} [style={style}, penwidth={width:.2f}];")
    return "\n".join([*lines, "}"]) + "\n"


def _id(node) -> str:
    return f"{node[0]}_{node[1]}"


def quoted(text: str) -> str:
    """A string of Graphviz's."""
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
