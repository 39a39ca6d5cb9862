"""Textbook results line by line: each line of mathematics is code, checked equal to the line above.

`names()` lists them; `get("softmax_cross_entropy")` gives a `Derivation`: `statement`, `steps` (each `latex`, `reason`,
`evaluate`), `verify(key)`, which checks every line at random points and the last one against independent oracles, and
`vjp`, the closed form as check.check_vjp takes it.
"""

from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.report import Comparison, Verification
from functional_dl.derivations.step import KINDS, Oracle, Step
from functional_dl.derivations.table import get, names

__all__ = ["KINDS", "Comparison", "Derivation", "Limit", "Oracle", "Step", "Verification", "get", "names"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
