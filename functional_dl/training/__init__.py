"""Training: plain gradient descent, and `fit` for everything else.

`gradient_descent` is the iteration of the textbook, compiled.  `fit` takes any optax optimiser, mini-batches of arrays
or of a loader, devices and checkpoints.  `start` and `run_steps` are `fit` without the host: pure functions, for
`jax.vmap`; `sweep` is that, over seeds and settings at once.

From a laptop to a cluster with one script:

    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    settings = dict(steps=300, batch_size=32, key=jax.random.key(0), mesh=mesh, placement="fully_sharded")
    fit = training.fit(loss, params, data, optax.adam(0.1), **settings)

1. On a laptop: as it is, on the one device; `checkpoint_dir=` and `resume=True` let it be interrupted at any time.
2. On all devices of a machine: the mesh above is already over all of them. Each has its part of every batch and, fully
   sharded, of parameters and optimiser; `placement=` splits single parameters, for tensor parallelism.
3. On many machines: `jax.distributed.initialize()` first, and the cluster's launcher starts the script on each. Arrays
   are read by each process as far as its devices need them (`numpy.memmap` reads no more than that); an iterable, such
   as a grain dataset, gives each process its own part. `python -m experiments scaling --processes 2` rehearses it.
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
