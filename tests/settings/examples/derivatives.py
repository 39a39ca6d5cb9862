"""reverse, check, explain, derivations, training: derivatives known on paper, found and judged."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.extend.core.primitives import sin_p

from functional_dl import check, derivations, explain, reverse, training
from tests.settings.values import Example

W, X, Y = np.array([0.5, -0.25]), np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [-2.0, 1.0]]), np.array([1.0, 0, 1, 0])


def neuron(w, x, y):
    return jnp.mean((jnp.tanh(x @ w) - y) ** 2)


def neuron_gradient():
    a = np.tanh(X @ W)
    return X.T @ ((a - Y) * (1 - a**2)) / 2


def _neuron(v):
    return v.array(W), v.batch(X), v.batch(Y)


def _vjp(v):
    out, pullback = reverse.vjp(lambda x, y: x * jnp.sin(y), v.number(2.0), v.number(1.0))
    x_bar, y_bar = pullback(jnp.ones_like(out))
    return (out, x_bar, y_bar), (2 * math.sin(1), math.sin(1), 2 * math.cos(1))


def _value_and_grad(v):
    value, grad = reverse.value_and_grad(neuron)(*_neuron(v))
    return (value, grad), (np.mean((np.tanh(X @ W) - Y) ** 2), neuron_gradient())


def _indexed(v):
    """Rows by constant integers, one of them twice, and a slice that is written to."""
    rows = v.integers([2, 0, 2])
    picked = reverse.grad(lambda x: jnp.sum(jnp.take(x, rows, axis=0) ** 2))(v.array([1.0, 2.0, 3.0]))
    written = reverse.grad(lambda x: jnp.sum(x.at[rows].add(1.0) ** 2))(v.array([1.0, 2.0, 3.0]))
    return (picked, written), (np.array([2.0, 0.0, 12.0]), np.array([4.0, 4.0, 10.0]))


def _recurrence(v):
    """s <- s sin(x_t): the product's derivative by each factor."""
    xs = np.array([0.5, 1.0, 1.5])
    loss = lambda xs: lax.scan(lambda s, x: (s * jnp.sin(x), s), jnp.ones_like(xs[0]), xs)[0]
    return reverse.grad(loss)(v.array(xs)), np.prod(np.sin(xs)) / np.tan(xs)


def _checkpointed(v):
    xs = np.array([0.5, 1.0, 1.5])
    step = lambda s, x: (s * jnp.sin(x), s)
    loss = lambda xs: reverse.checkpointed_scan(step, jnp.ones_like(xs[0]), xs, slots=2)[0]
    return reverse.grad(loss)(v.array(xs)), np.prod(np.sin(xs)) / np.tan(xs)


def _branches(v):
    """Newton's root in a while_loop, and a cond."""

    def root(a):
        return lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-4, lambda x: 0.5 * (x + a / x), a)

    def either(x):
        return lax.cond(x > 1, lambda x: x**2, lambda x: x**3, x)

    return (reverse.grad(root)(v.array(4.0)), reverse.grad(either)(v.array(2.0))), (0.25, 4.0)


def _jacobian(transform):
    f = lambda x: jnp.stack([x[0] * x[1], jnp.sin(x[0])])
    right = np.array([[2.0, 1.0], [math.cos(1), 0.0]])
    return Example(lambda v: (transform(f)(v.array([1.0, 2.0])), right))


def _vjp_rule(v):
    """A primitive of the user's own is refused a second rule."""
    try:
        reverse.vjp_rule(sin_p, reverse.Probe(lax.sin))(lambda ct, out, x: (ct,))
    except ValueError as error:
        return "stands in the table" in str(error), True
    return False, True


def swish(x):
    return x * jax.nn.sigmoid(x)


def swish_vjp(x):
    s = jax.nn.sigmoid(x)
    return x * s, lambda ct: (ct * (s + x * s * (1 - s)),)


def wrong_vjp(x):
    s = jax.nn.sigmoid(x)
    return x * s, lambda ct: (-ct * (s + x * s * (1 - s)),)


def _check_vjp(v):
    x = v.array([0.5, -1.0, 2.0])
    right, wrong = check.check_vjp(swish, swish_vjp, x), check.check_vjp(swish, wrong_vjp, x)
    return (right.passed, wrong.passed, wrong.findings[0].cause), (True, False, "sign")


def _custom(v):
    fun = jax.custom_vjp(swish)
    fun.defvjp(lambda x: (swish(x), x), lambda x, ct: swish_vjp(x)[1](ct))
    return check.check_custom_vjp(fun, v.array([0.5, -1.0])).passed, True


def _find_nan(v):
    found = check.find_nan(lambda x: jnp.sum(jnp.sqrt(x)), v.array([1.0, -1.0]))
    fine = check.find_nan(lambda x: jnp.sum(jnp.sqrt(x)), v.array([1.0, 4.0]))
    return (found.found, fine.found, found.equation), (True, False, "sqrt")


def _interval(v):
    found = check.subdifferential(jnp.abs, v.number(0.0))
    return (found.low, found.high), (-1.0, 1.0)


def _estimates(v):
    along = check.estimate_jvp(jnp.sin, (v.number(1.0),), (v.number(1.0),))
    back = check.estimate_vjp(jnp.sin, (v.number(1.0),), v.number(1.0))
    return (along.value, back.value[0]), (math.cos(1), math.cos(1))


def _tabulate(v):
    """x W + b from 2 to 1 for 4 rows: 16 + 4 operations, 16 + 3 for the cotangents; one weight is not applied."""
    init = lambda key: {"dense": {"weight": jnp.ones((2, 1)), "bias": jnp.ones(1)}, "other": {"scale": jnp.ones(3)}}

    def apply(params, x):
        with jax.named_scope("dense"):
            y = x @ params["dense"]["weight"]
            return y + jnp.broadcast_to(params["dense"]["bias"], y.shape)

    table = explain.tabulate((init, apply), v.batch(X))
    found = [(row.path, row.shape or (), row.parameters, row.flops, row.backward_flops) for row in table.rows]
    return found, [("dense", (4, 1), 3, 20, 19), ("other", (), 3, 0, 0)]


def _explain(v):
    shown = explain.explain(neuron, *_neuron(v))
    return ("tanh" in {step.primitive for step in shown.all_steps().values()}, shown.passed), (True, True)


def _derivation(v):
    return derivations.get("sigmoid").verify(v.key()).passed, True


def cost(theta, x, y):
    """J = 1/(2m) sum (theta_0 + theta_1 x - y)^2 of the textbook."""
    return jnp.mean((theta[0] + theta[1] * x - y) ** 2) / 2


DATA = np.array([1.0, 2.0, 3.0, 4.0])


def _descent(v):
    x, y = v.batch(DATA), v.batch(2 * DATA)
    theta, _ = training.gradient_descent(lambda t: cost(t, x, y), v.array([0.0, 0.0]), 0.01, 20)
    return theta, descended(20)


def descended(steps):
    """The same iteration in NumPy."""
    theta = np.zeros(2)
    for _ in range(steps):
        r = theta[0] + theta[1] * DATA - 2 * DATA
        theta = theta - 0.01 * np.array([np.mean(r), np.mean(r * DATA)])
    return theta


def _fit(v):
    data = (v.batch(DATA), v.batch(2 * DATA))
    fit = training.fit(
        lambda p, batch: cost(p, *batch), v.array([0.0, 0.0]), data, optax.sgd(0.01),
        steps=20, batch_size=None, key=v.key(), progress=False,
    )  # fmt: skip
    return fit.params, descended(20)


def _steps(v):
    optimizer, data = optax.sgd(0.01), (v.array(DATA), v.array(2 * DATA))
    step = training.make_step(lambda p, batch: cost(p, *batch), optimizer, 4)
    state = training.start(v.array([0.0, 0.0]), optimizer, v.key(), 4, 4)
    state, _ = training.run_steps(step, state, data, 1)
    return state.params, 0.01 * np.array([np.mean(2 * DATA), np.mean(2 * DATA**2)])


def _sweep(v):
    """Two rates of plain descent from 0: after one full step, minus the rate times the gradient."""
    rates = v.array([0.01, 0.02])
    runs = training.sweep(
        lambda p, batch: cost(p, *batch), lambda key: v.array([0.0, 0.0]), (v.array(DATA), v.array(2 * DATA)),
        optax.sgd, rates, jax.random.split(jax.random.key(0), 1), steps=1, batch_size=None,
    )  # fmt: skip
    gradient = np.array([np.mean(2 * DATA), np.mean(2 * DATA**2)])
    return runs.params, np.array([[0.01 * gradient], [0.02 * gradient]])


def _proximal(v):
    transform = training.proximal(lambda params: jax.tree.map(lambda p: p / 2, params))
    params = {"w": v.array([2.0])}
    updates, _ = transform.update({"w": v.array([1.0])}, transform.init(params), params)
    return updates, {"w": np.array([-0.5])}


EXAMPLES = {
    "reverse.vjp": Example(_vjp),
    "reverse.grad": Example(lambda v: (reverse.grad(neuron)(*_neuron(v)), neuron_gradient())),
    "reverse.grad, indexed": Example(_indexed),
    "reverse.grad, scan": Example(_recurrence),
    "reverse.grad, while and cond": Example(_branches, (1e-4, 1e-4)),
    "reverse.value_and_grad": Example(_value_and_grad),
    "reverse.jacrev": _jacobian(reverse.jacrev),
    "reverse.jacobian": _jacobian(reverse.jacobian),
    "reverse.hessian": Example(
        lambda v: (reverse.hessian(lambda x: x[0] ** 2 * x[1])(v.array([1.0, 2.0])), np.array([[4.0, 2.0], [2.0, 0.0]]))
    ),
    "reverse.checkpoint": Example(
        lambda v: (
            reverse.grad(reverse.checkpoint(lambda x: jnp.sin(jnp.exp(x))))(v.number(0.5)),
            math.cos(math.exp(0.5)) * math.exp(0.5),
        )
    ),
    "reverse.checkpointed_scan": Example(_checkpointed),
    "reverse.vjp_rule": Example(_vjp_rule),
    "check.check_vjp": Example(_check_vjp),
    "check.assert_vjp": Example(lambda v: (check.assert_vjp(swish, swish_vjp, v.array([0.5, -1.0])).passed, True)),
    "check.check_custom_vjp": Example(_custom),
    "check.check_grads": Example(lambda v: (check.check_grads(swish, v.array([0.5, -1.0])).passed, True)),
    "check.assert_grads": Example(
        lambda v: (check.assert_grads(swish, v.array([0.5, -1.0]), differentiate=reverse.vjp).passed, True)
    ),
    "check.find_nan": Example(_find_nan),
    "check.subdifferential": Example(_interval, (1e-5, 1e-5)),
    "check.estimate_jvp": Example(_estimates, (1e-5, 1e-8)),
    "check.estimate_vjp": Example(_estimates, (1e-5, 1e-8)),
    "explain.explain": Example(_explain),
    "explain.tabulate": Example(_tabulate),
    "derivations.get": Example(_derivation),
    "derivations.names": Example(lambda v: ("sigmoid" in derivations.names(), True)),
    "training.gradient_descent": Example(_descent),
    "training.fit": Example(_fit),
    "training.make_step": Example(_steps),
    "training.start": Example(_steps),
    "training.run_steps": Example(_steps),
    "training.proximal": Example(_proximal),
    "training.sweep": Example(_sweep),
}
