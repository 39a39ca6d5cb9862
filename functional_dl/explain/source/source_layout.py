"""Lines of Python laid out as ruff format lays them out.

A statement that is too long is broken at its last outer pair of brackets: what is inside goes on one line of its own if
it fits (arguments of a call), else, and always in a list, tuple or dict, on a line for each element.
"""

from __future__ import annotations

from collections.abc import Iterator

OPEN, CLOSE = "([{", ")]}"


def lay_out(statement: str, indent: int, width: int) -> list[str]:
    """The lines of a statement (or of an element of a list, with its comma)."""
    pad = " " * indent
    if len(pad) + len(statement) <= width:
        return [pad + statement]
    targets, _, source = statement.partition(" = ")
    if source.isidentifier() and "," in targets:
        return [f"{pad}(", *[f"{pad}    {name}," for name in split(targets)], f"{pad}) = {source}"]
    pair = _last_pair(statement)
    if pair is None:
        return [pad + statement]
    start, end = pair
    head, body, tail = statement[: start + 1], statement[start + 1 : end], statement[end:]
    elements = split(body)
    inner = " " * (indent + 4)
    is_call = (
        statement[start] == "(" and start > 0 and (statement[start - 1].isalnum() or statement[start - 1] in "_)]")
    )
    whole = body.rstrip(",")
    if is_call and not body.endswith(",") and len(inner) + len(whole) <= width:
        return [pad + head, inner + whole, pad + tail]
    lines = [pad + head]
    for element in elements:
        comma = "" if len(elements) == 1 and element.startswith("*") and not is_call else ","
        lines += lay_out(element + comma, indent + 4, width)
    return [*lines, pad + tail]


def _last_pair(text: str) -> tuple[int, int] | None:
    """Positions of the last pair of outer brackets that holds something."""
    found = None
    depth, start = 0, 0
    for position, char in _code(text):
        if char in OPEN:
            if depth == 0:
                start = position
            depth += 1
        elif char in CLOSE:
            depth -= 1
            if depth == 0 and position > start + 1:
                found = (start, position)
    return found


def split(text: str) -> list[str]:
    """The elements of a list's text."""
    parts, depth, start = [], 0, 0
    for position, char in _code(text):
        if char in OPEN:
            depth += 1
        elif char in CLOSE:
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _code(text: str) -> Iterator[tuple[int, str]]:
    """Characters outside of quoted strings."""
    quoted = False
    for position, char in enumerate(text):
        if char == '"' and not (position and text[position - 1] == "\\"):
            quoted = not quoted
        elif not quoted:
            yield position, char
