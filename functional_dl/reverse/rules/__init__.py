"""The rules: one file a family.  Every file in this folder is imported, so a rule counts wherever it is written."""

import importlib
import pkgutil

__all__ = [module.name for module in pkgutil.iter_modules(__path__)]  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


for _name in __all__:
    importlib.import_module(f"{__name__}.{_name}")
