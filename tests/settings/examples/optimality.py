"""optimality: problems whose optimum, multipliers and values are worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import optimality
from functional_dl.optimality import conjugates, first_order, projections, qp, qp_layer, regression, svm
from tests.settings.values import Example

SOLVED = (2e-3, 1e-5)
BOX = optimality.Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1)  # min (x-2)^2, x <= 1: x = 1, mu = 2
LEAST_NORM = optimality.Problem(lambda x: x @ x, equalities=lambda x: jnp.sum(x) - 3)  # (1, 1, 1), lambda = -2
X2 = np.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
S = np.array([-1.0, -1.0, 1.0, 1.0])  # separated by x_1 = 1 with margin 1: w = (1, 0), dual value 1/2


def _solve(v):
    found = optimality.solve(BOX, v.array(0.0))
    return (found.converged, found.x, found.ineq_multipliers), (True, 1.0, 2.0)


def _least_squares(v):
    """The line 1 + 2 t through four points that are off by 1, -1, -1, 1: offsets that a line leaves as they are."""
    t = np.arange(4.0)
    y = 1 + 2 * t + np.array([1.0, -1.0, -1.0, 1.0])
    residual = lambda p, t, y: p[0] + p[1] * t - y
    found = optimality.least_squares(residual, v.array([0.0, 0.0]), (v.array(t), v.array(y)))
    covariance = np.array([[1.4, -0.6], [-0.6, 0.4]])  # s^2 (J' J)^-1 = 2 [14, -6; -6, 4] / 20
    return (found.x, found.cost, found.covariance, found.converged), (np.array([1.0, 2.0]), 2.0, covariance, True)


def _certify(v):
    good = optimality.certify(BOX, v.array(1.0), mu=v.array(2.0))
    bad = optimality.certify(BOX, v.array(2.0), mu=v.array(0.0))
    return (good.passed, bad.passed), (True, False)


def _kkt(v):
    found = optimality.kkt_residuals(BOX, v.array(1.0), mu=v.array(2.0))
    return (found.stationarity, found.slackness), (0.0, 0.0)


def _slater(v):
    found = optimality.slater_point(optimality.Problem(lambda x: x, inequalities=lambda x: x**2 - 1), v.array(3.0))
    return (found.found, float(found.margin) > 0.5), (True, True)


def _dual_ascent(v):
    found = optimality.dual_ascent(LEAST_NORM, v.array([0.0, 0.0, 0.0]), 200, 0.15)
    return found.value, 3.0


def _is_convex(v):
    sampler = lambda key: jax.random.normal(key, (2,))
    yes = optimality.is_convex(lambda x: x @ x, sampler, v.key(), points=8, chords=16)
    no = optimality.is_convex(lambda x: x[0] * x[1], sampler, v.key(), points=8, chords=16)
    return (yes.verdict, no.verdict), ("no counterexample found", "not convex")


def _projection_family(t):
    """min (x - t)^2 s.t. x <= 1."""
    return optimality.Problem(lambda x: jnp.sum((x - t) ** 2), inequalities=lambda x: x - 1)


def _solution_map(v):
    solve = optimality.solution_map(_projection_family, v.array([0.0]))
    return (solve(v.array(0.5)), jax.jacrev(solve)(v.array(0.5))), (np.array([0.5]), np.array([1.0]))


def _regularity(v):
    found = optimality.regularity(_projection_family, v.array([0.0]))(v.array(3.0))
    return found.differentiable, True


def _proximal(v):
    """Lasso in one variable: min (x - 3)^2 / 2 + |x| is 2."""
    prox = lambda x, step: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step, 0)
    found = first_order.proximal_gradient(lambda x: 0.5 * jnp.sum((x - 3) ** 2), prox, v.array([0.0]), tolerance=1e-5)
    return found.x, np.array([2.0])


def _projected(v):
    found = first_order.projected_gradient(
        lambda x: jnp.sum((x - 3) ** 2), lambda x: jnp.clip(x, 0, 1), v.array([0.0, 0.5]), tolerance=1e-5
    )
    return found.x, np.array([1.0, 1.0])


def _qp(v):
    """min |x|^2/2 - x_1 - 3 x_2 with x_1 + x_2 <= 2: the multiplier is 1."""
    found = qp.solve(v.array(np.eye(2)), v.array([-1.0, -3.0]), G=v.array([[1.0, 1.0]]), h=v.array([2.0]))
    return (found.x, found.ineq_multipliers, found.status == qp.CONVERGED), (
        np.array([0.0, 2.0]),
        np.array([1.0]),
        True,
    )


def _qp_layer(v):
    solve = lambda q: qp_layer.solution(v_eye, q, lower=0.0)
    v_eye = v.array(np.eye(2))
    q = v.array([-1.0, 2.0])
    return (solve(q), jax.jacrev(solve)(q)), (np.array([1.0, 0.0]), np.array([[-1.0, 0.0], [0.0, 0.0]]))


def _qp_layer_layer(v):
    layer = qp_layer.layer(2, 1, lower=0.0, upper=1.0)
    x = layer.apply(layer.init(v.key()), v.array([-5.0, 5.0]))
    return bool(np.all((np.asarray(x) > -1e-4) & (np.asarray(x) < 1 + 1e-4))), True


def _qp_program(v):
    layer = qp_layer.layer(2, 1, lower=0.0, upper=1.0)
    P, *_ = qp_layer.program(layer.init(v.key()), lower=0.0, upper=1.0)
    return bool(np.all(np.linalg.eigvalsh(np.asarray(P)) > 0)), True


def _svm(fit):
    def run(v):
        machine = fit(v.batch(X2), v.batch(S), 10.0)
        return (machine.dual_value, machine.converged), (0.5, True)

    return Example(run, SOLVED, heavy=True)


def _lasso(v):
    """Columns orthogonal, y = x_1 exactly: the weight is 1 - s, the other 0."""
    x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    found = regression.lasso(v.batch(x), v.batch(x[:, 0]), v.number(0.25))
    return (found.weights, found.converged), (np.array([0.75, 0.0]), True)


def _ridge(v):
    x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    found = regression.ridge(v.batch(x), v.batch(x[:, 0] + 2), v.number(0.5))
    return (found.weights, found.bias), (np.linalg.solve(x.T @ x / 4 + np.eye(2), x.T @ x[:, 0] / 4), 2.0)


def _logistic(v):
    """By symmetry the bias is 0, and the gap certifies the rest."""
    found = regression.logistic(v.batch(X2 - [1.0, 0.0]), v.batch(S), v.number(0.1))
    return (found.bias, found.weights[1], found.converged), (0.0, 0.0, True)


V = np.array([0.5, 2.0, -1.0])
EXAMPLES = {
    "optimality.solve": Example(_solve, SOLVED, heavy=True),
    "optimality.least_squares": Example(_least_squares, SOLVED, heavy=True),
    "optimality.certify": Example(_certify, heavy=True),
    "optimality.kkt_residuals": Example(_kkt),
    "optimality.lagrangian": Example(lambda v: (optimality.lagrangian(BOX)(v.array(0.0), None, v.array(2.0)), 2.0)),
    "optimality.slater_point": Example(_slater, SOLVED, heavy=True),
    "optimality.dual_function": Example(
        lambda v: (optimality.dual_function(LEAST_NORM, v.array([0.0, 0.0, 0.0]))(v.array(-2.0), None), 3.0),
        SOLVED,
        True,
    ),
    "optimality.dual_ascent": Example(_dual_ascent, SOLVED, heavy=True),
    "optimality.is_convex": Example(_is_convex),
    "optimality.solution_map": Example(_solution_map, SOLVED, heavy=True),
    "optimality.regularity": Example(_regularity, SOLVED, heavy=True),
    "optimality.proximal_gradient": Example(_proximal, (1e-3, 1e-3)),
    "optimality.first_order.proximal_gradient": Example(_proximal, (1e-3, 1e-3)),
    "optimality.projected_gradient": Example(_projected, (1e-3, 1e-3)),
    "optimality.first_order.projected_gradient": Example(_projected, (1e-3, 1e-3)),
    "optimality.qp.solve": Example(_qp, SOLVED, heavy=True),
    "optimality.qp_layer.solution": Example(_qp_layer, SOLVED, heavy=True),
    "optimality.qp_layer.layer": Example(_qp_layer_layer, SOLVED, heavy=True),
    "optimality.qp_layer.program": Example(_qp_program),
    "optimality.svm.fit_dual": _svm(svm.fit_dual),
    "optimality.svm.fit_primal": _svm(svm.fit_primal),
    "optimality.svm.linear": Example(lambda v: (svm.linear(v.batch(X2), v.batch(X2)), X2 @ X2.T)),
    "optimality.svm.polynomial": Example(
        lambda v: (svm.polynomial(v.batch(X2), v.batch(X2), 2, 1.0, 1.0), (X2 @ X2.T + 1) ** 2)
    ),
    "optimality.svm.rbf": Example(
        lambda v: (svm.rbf(v.batch(X2), v.batch(X2), 0.5), np.exp(-0.5 * ((X2[:, None] - X2) ** 2).sum(-1)))
    ),
    "optimality.regression.lasso": Example(_lasso, SOLVED, heavy=True),
    "optimality.regression.ridge": Example(_ridge, (1e-4, 1e-9)),
    "optimality.regression.logistic": Example(_logistic, SOLVED, heavy=True),
    "optimality.conjugates.conjugate": Example(
        lambda v: (conjugates.conjugate("exponential")(v.array([1.0, np.e])), np.array([-1.0, 0.0]))
    ),
    "optimality.conjugates.quadratic": Example(
        lambda v: (conjugates.quadratic(v.array(2 * np.eye(2))).fun(v.array([1.0, 2.0])), 5.0)
    ),
    "optimality.projections.affine": Example(
        lambda v: (projections.affine(v.array([1.0, 2.0]), v.array([[1.0, 1.0]]), v.array([1.0])), np.array([0.0, 1.0]))
    ),
    "optimality.projections.box": Example(lambda v: (projections.box(v.array(V), -0.5, 1.0), np.clip(V, -0.5, 1.0))),
    "optimality.projections.half_space": Example(
        lambda v: (
            projections.half_space(v.array([1.0, 2.0]), v.array([1.0, 1.0]), v.number(1.0)),
            np.array([0.0, 1.0]),
        )
    ),
    "optimality.projections.hyperplane": Example(
        lambda v: (
            projections.hyperplane(v.array([1.0, 2.0]), v.array([1.0, 1.0]), v.number(1.0)),
            np.array([0.0, 1.0]),
        )
    ),
    "optimality.projections.l1_ball": Example(
        lambda v: (projections.l1_ball(v.array([2.0, -1.0]), v.number(1.0)), np.array([1.0, 0.0]))
    ),
    "optimality.projections.l2_ball": Example(
        lambda v: (projections.l2_ball(v.array([3.0, 4.0]), v.number(1.0)), np.array([0.6, 0.8]))
    ),
    "optimality.projections.linf_ball": Example(
        lambda v: (projections.linf_ball(v.array(V), v.number(1.0)), np.clip(V, -1, 1))
    ),
    "optimality.projections.nonnegative": Example(lambda v: (projections.nonnegative(v.array(V)), np.maximum(V, 0))),
    "optimality.projections.second_order_cone": Example(
        lambda v: (projections.second_order_cone(v.array([3.0, 4.0]), v.number(0.0)), (np.array([1.5, 2.0]), 2.5))
    ),
    "optimality.projections.simplex": Example(
        lambda v: (projections.simplex(v.array([1.0, 0.0]), v.number(1.0)), np.array([1.0, 0.0]))
    ),
}
