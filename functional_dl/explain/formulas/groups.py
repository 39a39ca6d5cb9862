"""The outline: functions and scopes of the user's program, each with its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from functional_dl.explain.explanation import Group, Step
from functional_dl.explain.record.sources import LIBRARY

FEWEST = 2  # steps: a function of fewer is no group of its own
FEWEST_OF_LIBRARY = 4  # the same for functions of JAX's, as log_softmax


def paths(entries: Sequence[Any]) -> list[tuple[str, ...]]:
    """The path of each entry, with neighbours of one name told apart by numbers and small ones left out."""
    keys = [[(_clean(name), tag) for name, tag in entry.path] for entry in entries]
    _drop_small(keys)
    return _numbered(keys)


def _clean(name: str) -> str:
    return name.rsplit(".", 1)[-1].strip("_").replace(" ", "_")


def _drop_small(keys: list[list[Any]]) -> None:
    """Removes the functions that hold few entries, and what is no name (einsum's formula)."""
    sizes: dict[tuple, int] = {}
    for key in keys:
        for depth in range(1, len(key) + 1):
            sizes[tuple(key[:depth])] = sizes.get(tuple(key[:depth]), 0) + 1
    for i, key in enumerate(keys):
        keys[i] = [
            part
            for depth, part in enumerate(key)
            if sizes[tuple(key[: depth + 1])] >= _fewest(part) and re.fullmatch(r"\w[\w\[\]/-]*", part[0])
        ]


def _fewest(part: tuple[Any, ...]) -> int:
    if part[1] is None:
        return 1  # a scope, which the user named
    is_library = isinstance(part[1], tuple) and part[1][:1] == (LIBRARY,)
    return FEWEST_OF_LIBRARY if is_library else FEWEST


def _numbered(keys: list[list[Any]]) -> list[tuple[str, ...]]:
    """Names that tell groups of one name under one parent apart: block, block 2, ..."""
    given: dict[tuple, str] = {}
    counts: dict[tuple, int] = {}
    before: list = []
    runs: dict[tuple, int] = {}
    result = []
    for key in keys:
        names: list[str] = []
        identity: tuple = ()
        same = True
        for depth, part in enumerate(key):
            same = same and depth < len(before) and before[depth] == part
            anonymous = not (isinstance(part[1], int) or (isinstance(part[1], tuple) and isinstance(part[1][-1], int)))
            if anonymous and not same:
                runs[(identity, part)] = runs.get((identity, part), 0) + 1
            run = runs.get((identity, part), 0) if anonymous else 0
            identity = (*identity, part, run)
            if identity not in given:
                counter = (tuple(names), part[0])
                counts[counter] = counts.get(counter, 0) + 1
                given[identity] = part[0] if counts[counter] == 1 else f"{part[0]} {counts[counter]}"
            names.append(given[identity])
        before = key
        result.append(tuple(names))
    return result


def tree(steps: Sequence[Step]) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    """The groups of the outermost level, and the steps in none."""
    return _children(steps, ()), tuple(step.index for step in steps if not step.group)


def _children(steps: Sequence[Step], path: tuple[str, ...]) -> tuple[Group, ...]:
    members: dict[str, list[Step]] = {}
    for step in steps:
        if len(step.group) > len(path):
            members.setdefault(step.group[len(path)], []).append(step)
    groups = []
    for name, inside in members.items():
        here = (*path, name)
        groups.append(
            Group(
                name,
                here,
                tuple(step.index for step in inside if step.group == here),
                _children(inside, here),
                sum(step.flops for step in inside),
                sum(step.backward_flops for step in inside),
                sum(step.bytes_kept for step in inside),
            )
        )
    return tuple(groups)
