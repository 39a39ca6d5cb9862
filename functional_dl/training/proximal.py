"""Proximal steps as an optax transformation."""

from collections.abc import Callable

import jax
import optax

from functional_dl import arguments
from functional_dl.aliases import Params


def proximal(prox: Callable[[Params], Params]) -> optax.GradientTransformation:
    r"""Follows the update before it in an `optax.chain` by a proximal map.

        theta_{t+1} = prox(theta_t + u_t).

    With u_t = -alpha * grad J and prox = prox of alpha * penalty this is proximal gradient descent (ISTA),
    which minimises J + penalty; for the L1 norm its iterates have entries that are exactly zero.

    Args:
      prox: params -> params, for example `lambda p: penalties.prox_l1(p, alpha * strength)`.
    Returns:
      A transformation; it needs `params` in its `update`, which `training.fit` always gives.
    Numerics: an update is returned as prox(theta + u) - theta; where the proximal map gives 0 the optimiser
      then computes theta + (0 - theta), which is exactly 0 in floating point.
    Source: Parikh and Boyd 2014, Proximal Algorithms, section 4.2.
    Example:
      >>> optimizer = optax.chain(optax.sgd(1.0), training.proximal(lambda w: penalties.prox_l1(w, 0.5)))
      >>> w = jnp.array([1.0, 0.2])
      >>> updates, _ = optimizer.update(jnp.zeros(2), optimizer.init(w), w)
      >>> optax.apply_updates(w, updates).tolist()
      [0.5, 0.0]
    """

    arguments.function("prox", prox)

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("params: expected the current parameters in update(updates, state, params), got None")
        moved = optax.apply_updates(params, updates)
        return jax.tree_util.tree_map(lambda new, old: new - old, prox(moved), params), state

    return optax.GradientTransformation(init, update)
