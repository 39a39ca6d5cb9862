"""The derivations: one file a family.  Every file in this folder lists its own in DERIVATIONS, and so they count."""

import importlib
import pkgutil

FAMILIES = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").DERIVATIONS
    for module in pkgutil.iter_modules(__path__)
}
