"""The table of derivations: every one that a file in `families` lists in its DERIVATIONS."""

import difflib
import functools

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
    """The names of all derivations, family after family."""
    return list(table())


def get(name: str) -> Derivation:
    """The derivation of that name.

    Raises:
      KeyError: there is none; the message names the nearest.
    """
    try:
        return table()[name]
    except KeyError:
        near = difflib.get_close_matches(str(name), table(), n=4, cutoff=0.4)
        words = set(str(name).lower().replace("-", "_").split("_"))
        near += [other for other in table() if "".join(part[0] for part in other.split("_")) == str(name).lower()]
        near += [other for other in table() if words & set(other.split("_")) and other not in near][:4]
        hint = f"the nearest are {', '.join(near)}" if near else f"names() lists all {len(table())}"
        raise KeyError(f"name: no derivation is called {name!r}; {hint}") from None
