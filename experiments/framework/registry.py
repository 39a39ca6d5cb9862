"""Discovery: every module file directly in experiments/ is an experiment."""

import difflib
import importlib
import pkgutil
from dataclasses import dataclass, is_dataclass
from types import ModuleType

import experiments

PARTS = ("CLAIM", "Config", "SMOKE", "run", "plot")


@dataclass(frozen=True)
class Experiment:
    """One file of experiments/.

    It has: CLAIM, one sentence; Config, a dataclass of settings that can be built without arguments; SMOKE, tiny
    settings for a test; run(config) -> Result; plot(result) -> list of Picture.  SUITE = False keeps it out of
    the default suite.
    """

    name: str
    module: ModuleType

    @property
    def claim(self) -> str:
        return self.module.CLAIM

    @property
    def about(self) -> str:
        """The module's docstring: how the claim is put to the test."""
        return (self.module.__doc__ or "").strip()

    @property
    def in_suite(self) -> bool:
        return getattr(self.module, "SUITE", True)


def discover() -> dict[str, Experiment]:
    """All experiments by name, in alphabetical order."""
    names = sorted(
        entry.name
        for entry in pkgutil.iter_modules(experiments.__path__)
        if not entry.ispkg and not entry.name.startswith("_")
    )
    return {name: load(name) for name in names}


def load(name: str) -> Experiment:
    module = importlib.import_module(f"experiments.{name}")
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing:
        raise TypeError(f"experiments/{name}.py: expected {', '.join(PARTS)}; missing: {', '.join(missing)}")
    if not (isinstance(module.Config, type) and is_dataclass(module.Config)) or not isinstance(
        module.SMOKE, module.Config
    ):
        raise TypeError(f"experiments/{name}.py: expected Config to be a dataclass and SMOKE one of its values")
    return Experiment(name, module)


def find(name: str, found: dict[str, Experiment]) -> Experiment:
    """The experiment of that name.  Raises KeyError with the near misses and all names."""
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise KeyError(f"no experiment {name!r}: {hint}there are {', '.join(found)}")
