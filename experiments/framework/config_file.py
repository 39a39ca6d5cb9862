"""Settings from a file: TOML or JSON.

    preset = "standard"          # of everything that the file does not say

    [digits]                     # one table an experiment
    epochs = 5
    hidden = [64, 32]

The config.json of a result is such a file too: it repeats the run.
"""

import dataclasses
import difflib
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from experiments.framework.registry import PRESETS


class ConfigError(ValueError):
    """The file says something that no experiment takes; the message says what."""


@dataclass(frozen=True)
class ConfigFile:
    """preset: of what the tables do not say, if the file names one; tables: experiment -> its settings."""

    path: Path
    preset: str | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self, name: str, config: Any) -> Any:
        """The config with what the file says of the experiment.  Raises ConfigError."""
        table = self.tables.get(name, {})
        hints = get_type_hints(type(config))
        fields = {f.name for f in dataclasses.fields(config)}
        values = {}
        for key, value in table.items():
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError(
                    f"{self.path}: {name}.{key}: no such setting; {hint}there are {', '.join(sorted(fields))}"
                )
            try:
                values[key] = _typed(value, hints[key])
            except TypeError as error:
                raise ConfigError(f"{self.path}: {name}.{key}: {error}") from None
        try:
            return dataclasses.replace(config, **values)
        except ValueError as error:
            raise ConfigError(f"{self.path}: {name}: {error}") from None


def read(path: Path, experiments: Sequence[str]) -> ConfigFile:
    """What a file says.  Raises ConfigError where it cannot be read, or names what is no experiment."""
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: {reason}") from None
    if not isinstance(said, dict):
        raise ConfigError(f"{path}: expected a table for each experiment, got {type(said).__name__}")
    if {"experiment", "settings"} <= set(said):  # config.json of a result
        said = {said["experiment"]: said["settings"]}
    preset = said.pop("preset", None)
    if preset not in (None, *PRESETS):
        raise ConfigError(f"{path}: preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    for name, table in said.items():
        if name not in experiments:
            near = difflib.get_close_matches(name, experiments, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{path}: {name}: no such experiment{hint}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name}: expected a table of settings, got {table!r}")
    return ConfigFile(path, preset, said)


def _typed(value: Any, wanted: Any) -> Any:
    """The value as the type that a field wants.  Raises TypeError."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is tuple and isinstance(value, list | tuple):
        if inner[-1] is Ellipsis:
            return tuple(_typed(entry, inner[0]) for entry in value)
        if len(value) == len(inner):
            return tuple(map(_typed, value, inner))
    elif origin is Literal and value in inner:
        return value
    elif origin in (Union, types.UnionType):
        for one in inner:
            try:
                return _typed(value, one)
            except TypeError:
                pass
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(wanted, type) and isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    name = wanted.__name__ if isinstance(wanted, type) and not inner else str(wanted).replace("typing.", "")
    raise TypeError(f"expected {name}, got {value!r}")
