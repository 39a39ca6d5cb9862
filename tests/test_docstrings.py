"""Every public function has an example in its docstring, and it prints what it shows, under JAX's default settings."""

import doctest
import inspect

import pytest

from experiments.book import reference
from experiments.book.cells import default_settings
from tests.campaigns import quick

ROOMS = {room.name: room for room in reference.rooms()}
LIGHT = ("kinks", "penalties", "losses", "initializers", "tree", "backprop")
WITHOUT = {"reverse.vjp_rule"}  # an example adds a rule for a primitive; CONTRIBUTING has one


def examples(room):
    return [entry for entry in ROOMS[room].entries if entry.example]


@pytest.mark.parametrize("room", ROOMS)
def test_every_function_has_an_example(room):
    without = {f"{room}.{e.name}" for e in ROOMS[room].entries if e.kind == "function" and ">>>" not in e.example}
    assert without <= WITHOUT


@pytest.mark.parametrize("room", quick(ROOMS, *LIGHT))
def test_examples_print_what_they_show(room):
    names, faults = reference.example_names(), []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    with default_settings():
        for entry in examples(room):
            test = doctest.DocTestParser().get_doctest(
                inspect.cleandoc(entry.example) + "\n", dict(names), entry.name, entry.file, entry.line
            )
            said: list[str] = []
            runner.run(test, out=said.append)
            faults += said
    assert not faults, "".join(faults)
