"""The larger of two numbers: 1 for the winner, a convention at a tie."""

from typing import Any

import jax.numpy as jnp

from functional_dl.aliases import Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.kinked import at_kink
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import away, drawing, normal, slope_of
from functional_dl.derivations.step import Step

MAX_AT_TIE, MAX_INTERVAL = at_kink(
    r"\max(\cdot, y)", "y", lambda x: jnp.maximum(x, 0.75), 0.75, (0.0, 1.0), 0.5, "at a tie, x = y"
)


def apart(key: Key) -> Any:
    r, y = drawing(away(4), normal(4))(key)
    return y + r, y


def maximum_chain(name: str, latex: str, place: int, won: str) -> tuple[Step, Step, Step]:
    return (
        Step(
            rf"\frac{{\partial m}}{{\partial {name}}} = \lim_{{h \to 0}} \frac{{\max({latex}) - \max(x, y)}}{{h}}",
            "the definition of the partial derivative, for x other than y",
            slope_of(jnp.maximum, place),
            chain=name,
        ),
        Step(
            rf"= \lim_{{h \to 0}} \mathbf{{1}}({won})\, \frac{{h}}{{h}}",
            r"for $|h| < |x - y|$ the larger one stays the larger one",
            Limit(lambda h, x, y: jnp.where((x > y) if place == 0 else (y > x), 1.0, 0.0) * (h / h)),
            chain=name,
        ),
        Step(
            rf"= \mathbf{{1}}({won})",
            "the quotient is 1 for every h",
            lambda x, y: jnp.where((x > y) if place == 0 else (y > x), 1.0, 0.0) + jnp.where(x == y, 0.5, 0.0),
            kind="limit",
            chain=name,
        ),
    )


MAXIMUM = Derivation(
    "maximum",
    "The larger of two numbers, and ties",
    r"m = \max(x, y) \quad\Rightarrow\quad \frac{\partial m}{\partial x} = \mathbf{1}(x > y), \quad"
    r" \frac{\partial m}{\partial y} = \mathbf{1}(y > x) \quad (x \ne y)",
    (
        *maximum_chain("x", "x + h, y", 0, "x > y"),
        *maximum_chain("y", "x, y + h", 1, "y > x"),
        *MAX_AT_TIE,
    ),
    "Clarke 1983, section 2.3",
    apart,
    fun=jnp.maximum,
    arguments=("x", "y"),
    slope=True,
    exact=lambda mp, x, y: x if x > y else y,
    oracles=(MAX_INTERVAL,),
    kinks=(
        "x = y: slopes 0 and 1.  A value there is a convention, not a derivative; taken: 1/2 for each, as jnp.maximum"
        " does.  "
        "The two must sum to 1, since max(x + h, x + h) grows like h.",
    ),
    kink_points=lambda key: ((jnp.asarray([1.0, 2.0, -1.0]), jnp.asarray([1.0, 0.0, -1.0])),),
    point="x and y, each of shape (4,), apart from each other",
)

DERIVATIONS = (MAXIMUM,)
