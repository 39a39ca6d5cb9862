"""What a user writes in a day, with the types that a strict checker infers: pyright accepts every line.

`assert_type` holds the inferred types at checking time; `main` runs all calls and hands out a few values.
"""

from typing import assert_type

import jax
import jax.numpy as jnp
import optax  # pyright: ignore[reportMissingTypeStubs]
from jax import Array

from functional_dl import (
    activations,
    calculus,
    check,
    derivations,
    explain,
    initializers,
    integrals,
    layers,
    losses,
    models,
    optimality,
    penalties,
    reverse,
    training,
    tree,
)
from functional_dl.reverse import Pullback


def array(numbers: object) -> Array:
    return jnp.array(numbers)  # pyright: ignore[reportUnknownMemberType]  (JAX's own signatures have unknown parts)


def sinc(x: Array) -> Array:
    return jnp.sin(x) / x


def line(x: Array) -> Array:
    return x


def square(x: Array) -> Array:
    return jnp.sum(x * x)


def with_aux(x: Array) -> tuple[Array, dict[str, Array]]:
    return jnp.sum(x * x), {"largest": jnp.max(x)}


def product(x: Array, y: Array) -> Array:
    return jnp.vdot(x, y)


def differentiate(x: Array) -> dict[str, float]:
    out, pullback = reverse.vjp(square, x)
    assert_type(out, Array)
    assert_type(pullback, Pullback)
    (x_bar,) = pullback(array(1.0))
    _, _, aux = reverse.vjp(with_aux, x, has_aux=True)
    assert_type(aux, dict[str, Array])

    gradient = reverse.grad(square)(x)
    value, _ = reverse.value_and_grad(square)(x)
    assert_type(value, Array)
    (loss, extra), _ = reverse.value_and_grad(with_aux, has_aux=True)(x)
    assert_type(loss, Array)
    assert_type(extra, dict[str, Array])
    _, (of_x, of_y) = reverse.value_and_grad(product, argnums=(0, 1))(x, 2 * x)
    both, _ = reverse.grad(with_aux, (0,), has_aux=True)(x)
    jacobian = reverse.jacrev(jnp.sin)(x)
    hessian = reverse.hessian(square)(x)
    kept = reverse.checkpoint(square)
    assert_type(kept(x), Array)
    carry, _ = reverse.checkpointed_scan(lambda c, _: (0.5 * c, None), x, length=4, slots=2)
    assert_type(carry, Array)
    return {
        "x_bar": float(x_bar[1]),
        "aux": float(aux["largest"]),
        "gradient": float(gradient[1]),
        "of_x": float(of_x[0]),
        "of_y": float(of_y[0]),
        "both": float(both[0][1]),
        "jacobian": float(jacobian[0, 0]),
        "hessian": float(hessian[1, 1]),
        "carry": float(carry[1]),
        "extra_steps": reverse.checkpointed_scan.extra_steps(4, 2),
    }


def judge(x: Array) -> dict[str, bool]:
    report = check.check_grads(square, x, order=1)
    causes: list[str] = [finding.cause for finding in report.findings]
    nan = check.find_nan(square, x)
    estimate = check.estimate_vjp(square, (x,), array(1.0))
    page: str = explain.explain(square, x).to_markdown()
    derivation = derivations.get(derivations.names()[0])
    reasons: list[str] = [step.reason for step in derivation.steps]
    return {
        "passed": report.passed and not causes,
        "nan": nan.found,
        "estimate": bool(jnp.all(jnp.isfinite(array(estimate.error[0])))),
        "page": "square" in page and bool(reasons),
    }


def analyse() -> dict[str, float]:
    found = calculus.limit(sinc, 0.0, side="both")
    slope = calculus.derivative(jnp.sin, 0.0, method="central")
    chain = calculus.compose(jnp.exp, jnp.sin)
    area = integrals.area_between(jnp.sin, jnp.cos, 0.0, 1.0)
    volume = integrals.volume_of_revolution(line, 0.0, 1.0, axis="x")
    coefficients = calculus.taylor(jnp.exp, 0.0, 3, side="right")
    return {
        "limit": found.value,
        "slope": float(slope.value),
        "chain": float(chain.derivative(0.0)),
        "area": float(area.value),
        "volume": float(volume.value),
        "third": float(coefficients[3]),
    }


def optimise(x: Array) -> dict[str, float]:
    problem = optimality.Problem(square, inequalities=lambda x: 1.0 - x)
    solution = optimality.solve(problem, x, method="sqp")
    machine = optimality.svm.fit_dual(array([[0.0], [1.0]]), array([-1.0, 1.0]), kernel="linear")
    lasso = optimality.regression.lasso(array([[1.0, 0.0], [0.0, 1.0]]), array([1.0, -1.0]), 0.1)
    inside = optimality.projections.l2_ball(3 * x, 1.0)
    return {
        "objective": float(solution.objective),
        "passed": float(solution.certificate.passed),
        "gap": float(machine.gap),
        "weights": float(lasso.weights[0]),
        "inside": float(tree.norm(inside)),
    }


def train(key: Array, x: Array, y: Array) -> dict[str, float]:
    network = models.mlp([2, 8, 1], "tanh", initializer="he_normal")
    assert_type(network, models.Model)
    params = network.init(key)

    def loss(params: dict[str, Array], batch: tuple[Array, Array]) -> Array:
        predicted = network.apply(params, batch[0])
        return jnp.mean(losses.squared_error(predicted, batch[1])) + 1e-4 * penalties.l2(params)

    result = training.fit(
        loss, params, (x, y), optax.adam(1e-2), steps=20, batch_size=None, key=key,
        differentiate=reverse.value_and_grad, progress=False,
    )  # fmt: skip
    history: list[float] = [float(value) for value in result.history["loss"]]
    _, descent = training.gradient_descent(square, array([1.0, 1.0]), 0.1, 5)
    layer = layers.dense(2, 3, initializer=initializers.get("orthogonal"))
    hidden = activations.relu(layer.apply(layer.init(key), x))
    dropped = layers.dropout(key, hidden, 0.5)
    table = explain.tabulate(network, x)
    paths: list[str] = [row.path for row in table.rows]
    start = models.linear(2).init(key)
    shrunk = penalties.prox_l1(start, 10.0)
    return {
        "fell": history[0] - history[-1],
        "parameters": table.parameters / len(paths),
        "descent": float(descent[-1]),
        "dropped": float(jnp.min(dropped)),
        "shrunk": float(tree.norm(shrunk)),
        "prime": float(losses.LOSSES["huber"].prime(3.0, 1.0)),
    }


def main() -> dict[str, float | bool]:
    x = array([1.0, 2.0, 3.0])
    key = jax.random.key(0)
    inputs = jax.random.normal(key, (16, 2))
    return {
        **differentiate(x),
        **judge(x),
        **analyse(),
        **optimise(x),
        **train(key, inputs, jnp.sum(inputs, axis=1, keepdims=True)),
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:12} {value}")
