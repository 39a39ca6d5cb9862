"""Training: plain gradient descent, and `fit` for everything else.

`gradient_descent` is the iteration of the textbook, compiled.  `fit` takes any optax optimiser, mini-batches of arrays
or of a loader, devices and checkpoints.  `start` and `run_steps` are `fit` without the host: pure functions, for
`jax.vmap`; `sweep` is that, over seeds and settings at once.
"""

from functional_dl.training.descent import gradient_descent
from functional_dl.training.evaluation import Best, EarlyStopping
from functional_dl.training.fit import Fit, fit
from functional_dl.training.proximal import proximal
from functional_dl.training.reports import Report
from functional_dl.training.step import State, make_step, run_steps, start
from functional_dl.training.sweep import Sweep, sweep

__all__ = [
    "Best",
    "EarlyStopping",
    "Fit",
    "Report",
    "State",
    "Sweep",
    "fit",
    "gradient_descent",
    "make_step",
    "proximal",
    "run_steps",
    "start",
    "sweep",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
