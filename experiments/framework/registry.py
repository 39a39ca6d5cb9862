"""Discovery: every module file directly in experiments/ is an experiment.

What the list shows is read from the files; a module is imported when it is run, and no other one.
"""

import ast
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, is_dataclass
from importlib.machinery import FileFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import experiments

PARTS = ("CLAIM", "Config", "SMOKE", "run", "plot")
PRESETS = ("quick", "standard", "full")


@dataclass(frozen=True)
class Experiment:
    """One file of experiments/.

    It has: CLAIM, one sentence; Config, a dataclass of settings that can be built without arguments; SMOKE, tiny
    settings for a test; run(config) -> Result; plot(result) -> list of Picture.  QUICK and FULL are the settings of
    these presets, where they are not Config's defaults, which are `standard`'s.  SUITE is the smallest preset whose
    suite it belongs to, quick without it.  ALONE = True: it measures times, and nothing else runs beside it.
    """

    name: str
    path: Path

    @property
    def module(self) -> ModuleType:
        module = importlib.import_module(f"experiments.{self.name}")
        missing = [part for part in PARTS if not hasattr(module, part)]
        if missing:
            raise TypeError(f"experiments/{self.name}.py: expected {', '.join(PARTS)}; missing: {', '.join(missing)}")
        if not (isinstance(module.Config, type) and is_dataclass(module.Config)) or not isinstance(
            module.SMOKE, module.Config
        ):
            raise TypeError(
                f"experiments/{self.name}.py: expected Config to be a dataclass and SMOKE one of its values"
            )
        for preset in PRESETS:
            given = getattr(module, preset.upper(), None)
            if given is not None and not isinstance(given, module.Config):
                raise TypeError(f"experiments/{self.name}.py: expected {preset.upper()} to be a Config, got {given!r}")
        return module

    @property
    def claim(self) -> str:
        return _constants(self.path).get("CLAIM", "")

    @property
    def about(self) -> str:
        """The module's docstring: how the claim is put to the test."""
        return _constants(self.path)["__doc__"]

    @property
    def suite(self) -> str:
        """The smallest preset whose suite it belongs to."""
        found = _constants(self.path).get("SUITE", PRESETS[0])
        if found not in PRESETS:
            raise TypeError(f"experiments/{self.name}.py: expected SUITE to be one of {PRESETS}, got {found!r}")
        return found

    @property
    def alone(self) -> bool:
        """Whether it measures times, so that nothing may run beside it."""
        return _constants(self.path).get("ALONE", False)

    def in_suite(self, preset: str) -> bool:
        return PRESETS.index(self.suite) <= PRESETS.index(preset)

    def settings(self, preset: str) -> Any:
        """The Config of a preset."""
        module = self.module
        return getattr(module, preset.upper(), None) or module.Config()


def discover() -> dict[str, Experiment]:
    """All experiments by name, in alphabetical order; none is imported."""
    found = {}
    for entry in pkgutil.iter_modules(experiments.__path__):
        if not entry.ispkg and not entry.name.startswith("_") and isinstance(entry.module_finder, FileFinder):
            found[entry.name] = Experiment(entry.name, Path(entry.module_finder.path) / f"{entry.name}.py")
    return dict(sorted(found.items()))


def load(name: str) -> Experiment:
    """The experiment, imported.  Raises TypeError where the file lacks a part."""
    experiment = find(name, discover())
    experiment.module  # noqa: B018
    return experiment


def find(name: str, found: dict[str, Experiment], others: Iterable[str] = ()) -> Experiment:
    """The experiment of that name.  Raises KeyError with the near misses, among other names too, and all names."""
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, [*found, *others], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise KeyError(f"no experiment {name!r}: {hint}there are {', '.join(found)}")


@functools.cache
def _constants(path: Path) -> dict[str, Any]:
    """The constants that a file sets, and its docstring, without running it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: dict[str, Any] = {"__doc__": (ast.get_docstring(tree) or "").strip()}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    return found
