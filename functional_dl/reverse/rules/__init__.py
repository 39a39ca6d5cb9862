"""The rules: one file a family.  Every file in this folder is imported, so a rule counts wherever it is written."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
