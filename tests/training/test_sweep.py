"""A sweep is each of its runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from functional_dl import training

X = np.random.default_rng(0).normal(size=(20, 3))
Y = X.sum(1)
RATES, KEYS = jnp.array([0.01, 0.1, 0.3]), jax.random.split(jax.random.key(5), 2)


def loss(params, batch):
    return jnp.mean((batch[0] @ params - batch[1]) ** 2)


def init(key):
    return jax.random.normal(key, (3,))


def run(**change):
    given = dict(
        loss=loss, init=init, data=(X, Y), optimizer=optax.adam, settings=RATES, keys=KEYS, steps=12, batch_size=5
    )
    return training.sweep(**(given | change))


def test_each_run_is_fits():
    runs = run()
    assert runs.history["loss"].shape == (3, 2, 12)
    for i, rate in enumerate(RATES):
        fit = training.fit(
            loss, init(KEYS[1]), (X, Y), optax.adam(rate), steps=12, batch_size=5, key=KEYS[1], progress=False
        )
        np.testing.assert_allclose(runs.history["loss"][i, 1], fit.history["loss"], rtol=1e-10)
        np.testing.assert_allclose(runs.params[i, 1], fit.params, rtol=1e-10)


def test_settings_by_name_and_what_the_loss_carries():
    counted = lambda params, count, batch: (loss(params, batch), count + 1)
    settings = {"learning_rate": RATES, "b1": jnp.array([0.9, 0.5, 0.0])}
    runs = run(loss=counted, optimizer=lambda s: optax.adam(**s), settings=settings, carry=jnp.array(0))
    np.testing.assert_array_equal(runs.carry, np.full((3, 2), 12))


BAD = [
    (dict(settings=0.1), ValueError, r"settings: expected arrays with one common leading axis, got shapes"),
    (
        dict(settings={"a": RATES, "b": RATES[:2]}),
        ValueError,
        r"settings: expected arrays with one common leading",
    ),
    (dict(keys=KEYS[0]), TypeError, r"keys: expected an array of keys, as jax.random.split gives"),
    (dict(keys=3), TypeError, r"keys: expected an array of keys, as jax.random.split gives, got 3"),
    (dict(optimizer=optax.adam(0.1)), TypeError, r"optimizer: expected a function"),
    (dict(init=3), TypeError, r"init: expected a function, got 3"),
    (dict(batch_size=50), ValueError, r"batch_size: expected at most the number of examples, 20, got 50"),
    (dict(data=(X, Y[:3])), ValueError, r"data: expected one common leading axis"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        run(**change)
