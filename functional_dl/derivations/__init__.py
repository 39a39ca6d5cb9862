"""Textbook results line by line: each line of mathematics is code, checked equal to the line above.

`names()` lists them; `get("softmax_cross_entropy")` gives a `Derivation`: `statement`, `steps` (each `latex`, `reason`,
`evaluate`), `verify(key)`, which checks every line at random points and the last one against independent oracles, and
`vjp`, the closed form as check.check_vjp takes it.
"""

from functional_dl.derivations.derivation import Derivation as Derivation
from functional_dl.derivations.limits import Limit as Limit
from functional_dl.derivations.report import Comparison as Comparison
from functional_dl.derivations.report import Verification as Verification
from functional_dl.derivations.step import KINDS as KINDS
from functional_dl.derivations.step import Oracle as Oracle
from functional_dl.derivations.step import Step as Step
from functional_dl.derivations.table import get as get
from functional_dl.derivations.table import names as names
