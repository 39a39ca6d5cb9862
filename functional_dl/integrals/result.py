"""What an integral comes with: its value, an error estimate meant as a bound, and whether it can be trusted."""

import dataclasses

import jax
import numpy as np

from functional_dl import precision
from functional_dl.aliases import Array, PyTree

(
    OK,
    NOT_FINITE,
    DIVERGES_BELOW,
    DIVERGES_ABOVE,
    SINGULAR,
    UNRESOLVED,
    ROUNDING,
    MISSED,
    NAN_BOUND,
    SAMPLED,
    OTHER,
    UNSEEN,
    DIVERGES,
    MOVING,
) = range(14)
_ENDLESS = (
    "the integrand stays too large towards the {} bound: "
    "the integral diverges, or cannot be distinguished from one that does"
)
SENTENCES = {
    OK: "",
    NOT_FINITE: "the integrand is NaN or infinite on a part of the range, near {at}",
    DIVERGES_BELOW: _ENDLESS.format("lower"),
    DIVERGES_ABOVE: _ENDLESS.format("upper"),
    SINGULAR: "the integrand is unbounded near {at}; if it is integrable there, pass the place in points=",
    UNRESOLVED: "the subdivision ended before the integrand was resolved, worst near {at}: it oscillates or is noisy",
    ROUNDING: "rounding of the integrand or of its argument is larger than the tolerance, most near {at}",
    MISSED: "two rules disagree, or enclosures with samples: a feature of the integrand was seen by one and missed by "
    "the other",
    NAN_BOUND: "a bound is NaN",
    SAMPLED: "the value is a mean over quasi-random samples, and its confidence interval is wider than the tolerance",
    OTHER: "a part of the integral did not converge",
    UNSEEN: "the integrand is 0 at every place where it was evaluated, but not proved to be 0 between them",
    DIVERGES: "the integrand stays too large towards a place or edge of the region, or towards infinity: the integral "
    "diverges, or cannot be distinguished from one that does",
    MOVING: "the integrand jumps at a place that depends on theta and was not found: what the jump adds is missing",
}
# codes that refuse convergence whatever the error says
SERIOUS = (NOT_FINITE, DIVERGES_BELOW, DIVERGES_ABOVE, MISSED, NAN_BOUND, UNSEEN, DIVERGES, MOVING)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Integral:
    """A value with its error.

    Attributes:
      value: the integral, in the structure of what the integrand returns; float64, or complex128.  Where x64 is off
        its numbers are NumPy's, with which JAX computes in float32; under jit, grad and vmap they are rounded to
        float32, which `error` counts.
      error: a bound on |value - integral|, entry by entry in the same structure; meant never to be too small where
        `converged` holds.  Infinite where nothing can be said.
      converged: whether every entry's error is within max(atol, rtol |value|) and nothing suspicious was seen.
      code: why not, as a number (see `reason`).
      at: where on the axis the largest share of the error sits; NaN where that has no meaning.
      evaluations: how often the integrand was evaluated.
    """

    value: PyTree
    error: PyTree
    converged: Array
    code: Array
    at: Array
    evaluations: Array

    @property
    def reason(self) -> str:
        """Why the integral is not converged, as a sentence; empty if it is.  Under jit and vmap, read `code`."""
        codes = np.unique(np.asarray(self.code))
        return "; ".join(filter(None, (self._sentence(int(code)) for code in codes)))

    def _sentence(self, code: int) -> str:
        where = np.asarray(self.at)
        return SENTENCES[code].format(at=f"{float(where):.6g}" if where.ndim == 0 else "places that `at` holds")

    def __float__(self) -> float:
        return float(self.value)


def handed_out(found: Integral) -> Integral:
    """As precision.handed_out; rounding of values to float32 counts as error."""
    out = precision.handed_out(found)
    if jax.config.jax_enable_x64 or not isinstance(found.converged, jax.core.Tracer):
        return out
    eps = float(np.finfo(np.float32).eps)
    wider = lambda error, value: error * (1 + eps) + eps * abs(jax.lax.stop_gradient(value))
    return dataclasses.replace(out, error=jax.tree.map(wider, out.error, out.value))
