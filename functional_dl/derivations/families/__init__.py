"""The derivations: one file a family.  Every file in this folder lists its own in DERIVATIONS, and so they count."""

import functools
import importlib
import pkgutil

__all__ = ["load"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


@functools.cache
def load() -> dict[str, tuple]:
    """Family -> its derivations; the files are imported when first asked for, to keep the package's import light."""
    return {
        module.name: importlib.import_module(f"{__name__}.{module.name}").DERIVATIONS
        for module in pkgutil.iter_modules(__path__)
    }
