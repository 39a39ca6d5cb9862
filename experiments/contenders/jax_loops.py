"""In JAX: by `training.fit`, and by the usual Python loop on the library's own networks and on Flax's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.contenders import FIT, FLAX, tasks
from functional_dl import losses, models, training

RATE = 1e-3
NETWORKS = {
    "perceptron": models.mlp((64, 64, 10), "relu"),
    "convolutional": models.cnn(
        (8, 8), 1, 10, stages=((16,), (32,)), hidden=(64,), window=3, pool="max", activation="relu"
    ),
    "LSTM": models.recurrent(8, 64, 10),
    "transformer": models.transformer(17, 32, 4, 2, 64),
}


def build(contender: str, task: str, batch_size: int, steps: int, progress: bool = False) -> Callable[[], Any]:
    init, apply = NETWORKS[task].init, NETWORKS[task].apply
    if contender == FLAX:
        from experiments.contenders import flax_networks

        init, apply = flax_networks.init(task), flax_networks.NETWORKS[task][0].apply

    def classify(params, batch):
        return jnp.mean(losses.softmax_cross_entropy(apply(params, batch[0]), batch[1]))

    def predict(params, batch):
        logits = apply(params, batch[0][:, :-1])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[0][:, 1:]))

    loss = predict if task == "transformer" else classify
    params, data = jax.jit(init)(jax.random.key(0)), tasks.arrays(task)
    if contender == FIT:
        return _by_fit(loss, params, data, batch_size, steps, progress)
    return _by_loop(loss, params, data, batch_size, steps)


def _by_fit(loss, params, data, batch_size, steps, progress):
    optimizer = optax.adam(RATE)

    def train():
        fit = training.fit(loss, params, data, optimizer, steps=steps, batch_size=batch_size, key=jax.random.key(1),
                           progress=progress)  # fmt: skip
        jax.block_until_ready(fit.params)
        return fit.history["loss"]

    return train


def _by_loop(loss, start, data, batch_size, steps):
    optimizer = optax.adam(RATE)

    @jax.jit
    def step(params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    def train():
        rng, params, state = np.random.default_rng(0), start, optimizer.init(start)
        history, order = [], np.zeros(0, int)
        for _ in range(steps):
            if len(order) < batch_size:
                order = rng.permutation(len(data[0]))
            chosen, order = order[:batch_size], order[batch_size:]
            params, state, value = step(params, state, tuple(leaf[chosen] for leaf in data))
            history.append(value)
        jax.block_until_ready(params)
        return np.array(jax.device_get(history))

    return train
