"""Training: plain gradient descent, and `fit` for everything else.

`gradient_descent` is the iteration of the textbook, compiled.  `fit` takes any optax optimiser, mini-batches,
devices and checkpoints.  `start` and `run_steps` are `fit` without the host: pure functions, for `jax.vmap`
over seeds.
"""

from functional_dl.training.descent import gradient_descent
from functional_dl.training.fit import Fit, fit
from functional_dl.training.proximal import proximal
from functional_dl.training.step import State, make_step, run_steps, start

__all__ = ["Fit", "State", "fit", "gradient_descent", "make_step", "proximal", "run_steps", "start"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
