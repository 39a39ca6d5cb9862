"""Every public function's smallest example, under every setting that users have: no error, no warning, a right answer.

What fails in a room that a later issue rebuilds stands in the ledger, with the issue's subject; an entry that no longer
fails has to go.
"""

import types
import warnings

import jax
import pytest

import functional_dl
from tests.settings.examples import EXAMPLES
from tests.settings.ledger import AT_MOST, LEDGER
from tests.settings.settings import COMBINATIONS, SETTINGS, Setting, applied, combined, values
from tests.settings.values import Example, differences

TESTS_OWN = "x64, strict promotion"  # every other test runs so: here in the campaign alone
ALONE = {setting: [setting] for setting in SETTINGS}
HEAVY = {setting: ALONE[setting] for setting in ("default", "Explicit mesh")}  # for heavy examples, the campaign apart


def public_functions(name: str, module) -> dict:
    """ "room.function" -> function, of a room and of those that its __all__ names inside it."""
    found = {}
    for public in module.__all__:
        value = getattr(module, public)
        if isinstance(value, types.ModuleType):
            if value.__name__.startswith("functional_dl") and hasattr(value, "__all__"):
                found |= public_functions(f"{name}.{public}", value)
        elif callable(value) and not isinstance(value, type) and value.__module__.startswith("functional_dl"):
            found[f"{name}.{public}"] = value
    return found


def test_every_public_function_has_an_example():
    rooms = {name: getattr(functional_dl, name) for name in dir(functional_dl)}
    wanted = {}
    for name, room in rooms.items():
        if isinstance(room, types.ModuleType) and name not in ("aliases", "arguments", "kinks", "estimates", "jaxprs"):
            wanted |= public_functions(name, room)
    assert len(wanted) > 200
    assert not {name for name in wanted if name not in EXAMPLES}
    assert not {name for name in EXAMPLES if name.split(",")[0] not in wanted}


def faults(example: Example, setting: Setting) -> list[str]:
    """What goes wrong; nothing if the answer is right."""
    try:
        with applied(setting):
            first = values(setting)
            found = differences(*example.run(first), example.tolerance)
            if setting.jitted:
                found += _jitted(example, setting, first.made)
                found += differences(*example.run(values(setting)), example.tolerance)
            return found
    except Exception as error:
        return [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]


def _jitted(example: Example, setting: Setting, made: list) -> list[str]:
    """The example with its arrays as a jitted function's arguments, where it can be traced at all."""
    right = []

    def program(arrays):
        answer, expected = example.run(values(setting, list(arrays)))
        right.append(expected)
        return answer

    try:
        answer = jax.jit(program)(made)
    except jax.errors.UnexpectedTracerError:
        raise
    except Exception:  # it asks for a value, calls NumPy or returns no arrays: it has to work afterwards
        return []
    return differences(answer, right[-1], example.tolerance)


def met(number: int, place: int, runs: dict[str, list[str]]) -> bool:
    """Whether an example meets a run: by default all meet JAX's own settings, every second one each of the others.

    A heavy example meets one.  In the campaign every example meets every run.
    """
    if runs is ALONE:
        return True
    if runs is HEAVY:
        return number % len(runs) == place
    return not place or number % (len(runs) - 1) == place - 1


def cases(heavy: bool, runs: dict[str, list[str]], *marks) -> list:
    rooms = sorted({name.split(".")[0] for name, example in EXAMPLES.items() if example.heavy == heavy})
    label = f"{len({setting for held in runs.values() for setting in held})} settings"
    if runs is ALONE:
        label += " one by one"
    return [pytest.param(room, heavy, runs, marks=marks, id=f"{room}{', heavy' * heavy}, {label}") for room in rooms]


CASES = [
    *cases(False, COMBINATIONS),
    *cases(True, HEAVY),
    *cases(False, ALONE, pytest.mark.campaign),
    *cases(True, ALONE, pytest.mark.campaign),
]


@pytest.mark.parametrize(("room", "heavy", "runs"), CASES)
def test_examples(room, heavy, runs, record_property):
    """All settings in one process: what is compiled under one serves those that differ in how inputs are made."""
    wrong, struck, count = [], [], 0
    examples = [(name, e) for name, e in EXAMPLES.items() if name.split(".")[0] == room and e.heavy == heavy]
    for place, (label, held) in enumerate(runs.items()):
        setting = combined(held)
        for number, (name, example) in enumerate(examples):
            if not met(number, place, runs):
                continue
            count += len(held)
            found = faults(example, setting)
            known = [(one, name) in LEDGER for one in held]
            if found and not any(known):
                wrong.append(f"under {label}, {name}: {'; '.join(found)}")
            if not found and all(known):
                struck.append(f"{name} under {label}")
    record_property("cases", count)
    assert not wrong, "\n".join(wrong)
    assert not struck, f"no longer fail, strike them from the ledger: {struck}"


def test_the_default_run_holds_every_setting_of_users():
    held = [setting for settings in COMBINATIONS.values() for setting in settings]
    assert sorted([*held, TESTS_OWN]) == sorted(SETTINGS)
    for label, settings in COMBINATIONS.items():
        wanted = {flag for setting in settings for flag, on in vars(SETTINGS[setting]).items() if on}
        assert {flag for flag, on in vars(combined(settings)).items() if on} == wanted, label


@pytest.mark.parametrize("runs", [COMBINATIONS, HEAVY], ids=["light", "heavy"])
def test_by_default_every_run_is_met_by_its_share(runs):
    shares = [sum(met(number, place, runs) for number in range(60)) for place in range(len(runs))]
    assert shares == ([60, 30, 30] if runs is COMBINATIONS else [30, 30])


def test_the_ledger_only_shrinks():
    assert len(LEDGER) <= AT_MOST
    assert all(setting in SETTINGS and name in EXAMPLES and reason for (setting, name), reason in LEDGER.items())


def test_a_wrong_answer_an_error_and_a_warning_are_faults():
    assert faults(Example(lambda v: (v.array([1.0]), [2.0])), SETTINGS["default"])
    assert faults(Example(lambda v: (v.array([1.0]) + v.array([1.0, 2.0, 3.0])[:2][:1], {})), SETTINGS["default"])
    assert "KeyError" in faults(Example(lambda v: ({}["a"], 1)), SETTINGS["default"])[0]
    assert "care" in faults(Example(lambda v: (warnings.warn("care", stacklevel=1), None)), SETTINGS["default"])[0]
    assert not faults(Example(lambda v: (v.array([1.0]), v.array([1.0]))), SETTINGS["Explicit mesh"])
