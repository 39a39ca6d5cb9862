"""The table of derivations: every one that a file in `families` lists in its DERIVATIONS."""

import functools

from functional_dl import arguments
from functional_dl.derivations import families
from functional_dl.derivations.derivation import Derivation


@functools.cache
def table() -> dict[str, Derivation]:
    """Name -> derivation, family after family.

    Raises:
      ValueError: two derivations have one name.
    """
    found: dict[str, Derivation] = {}
    for family in families.load().values():
        for derivation in family:
            if derivation.name in found:
                raise ValueError(f"name: two derivations are called {derivation.name!r}")
            found[derivation.name] = derivation
    return found


def names() -> list[str]:
    """The names of all derivations, family after family.

    Example:
      >>> "softmax_cross_entropy" in derivations.names()
      True
    """
    return list(table())


def get(name: str) -> Derivation:
    """The derivation of that name.

    Raises:
      KeyError: there is none; the message names the nearest.
    Example:
      >>> d = derivations.get("sigmoid")
      >>> d
      Derivation('sigmoid': Derivative of the logistic sigmoid, 6 lines)
      >>> d.verify(points=1).passed
      True
    """
    if name not in table():
        raise KeyError(f"{arguments.unknown('name', name, table())} (derivations.names() lists them)")
    return table()[name]
