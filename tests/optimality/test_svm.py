"""Support vector machines: dual values, gaps, scikit-learn's numbers, and the conditions at the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets
from sklearn.svm import SVC

from functional_dl.optimality import svm

# loader, the class of label 1, the dual value of the linear machine with C = 1 on standardised features
PROBLEMS = {
    "iris": (datasets.load_iris, 0, 0.97525262),
    "wine": (datasets.load_wine, 0, 2.2816812),
    "breast_cancer": (datasets.load_breast_cancer, 1, 26.525455),
}


def data(name):
    load, positive, _ = PROBLEMS[name]
    found = load()
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    return jnp.asarray(x), jnp.array(np.where(found.target == positive, 1.0, -1.0))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("fit", [svm.fit_dual, svm.fit_primal])
@pytest.mark.sampled(4)
def test_dual_values(name, fit):
    x, y = data(name)
    machine = fit(x, y, 1.0)
    assert machine.converged
    assert abs(machine.dual_value - PROBLEMS[name][2]) <= 1e-6
    assert machine.gap >= -1e-12
    assert machine.gap <= 1e-8


@pytest.mark.parametrize(("kernel", "options"), [("linear", {}), ("rbf", {"gamma": "auto"}),
                                                ("polynomial", {"gamma": "auto", "coef0": 1.0})])  # fmt: skip
def test_equals_scikit_learn(kernel, options):
    x, y = data("wine")
    machine = svm.fit_dual(x, y, 0.7, kernel)
    other = SVC(C=0.7, kernel={"polynomial": "poly"}.get(kernel, kernel), tol=1e-10, **options).fit(x, y)
    np.testing.assert_allclose(machine.decision(x), other.decision_function(x), atol=1e-6)
    assert set(np.flatnonzero(machine.support)) == set(other.support_)
    np.testing.assert_array_equal(machine.predict(x), other.predict(x))


@pytest.mark.campaign
def test_the_conditions_at_the_optimum():
    """alpha in [0, C], y . alpha = 0, and alpha_i (1 - xi_i - y_i f(x_i)) = 0 with xi_i = max(0, 1 - y_i f(x_i))."""
    x, y = data("breast_cancer")
    machine = svm.fit_dual(x, y, 1.0)
    margin = y * machine.decision(x)
    assert abs(y @ machine.alpha) <= 1e-8
    free = (machine.alpha > 1e-6) & (machine.alpha < 1 - 1e-6)
    np.testing.assert_allclose(margin[free], 1.0, atol=1e-6)
    assert jnp.all(margin[machine.alpha <= 1e-6] >= 1 - 1e-6)
    assert jnp.all(margin[machine.alpha >= 1 - 1e-6] <= 1 + 1e-6)
    np.testing.assert_allclose(machine.weights @ x.T + machine.bias, machine.decision(x), atol=1e-9)


@pytest.mark.campaign
def test_prices_at_once_and_custom_kernels():
    x, y = data("iris")
    prices = jnp.array([0.1, 1.0, 10.0])
    many = jax.jit(jax.vmap(lambda c: svm.fit_dual(x, y, c).dual_value))(prices)
    np.testing.assert_allclose(many, [svm.fit_dual(x, y, c).dual_value for c in prices], rtol=1e-9)
    doubled = svm.fit_dual(x, y, 1.0, lambda a, b: 2 * a @ b.T)
    np.testing.assert_allclose(doubled.dual_value, svm.fit_dual(x * np.sqrt(2), y, 1.0).dual_value, rtol=1e-8)
    with pytest.raises(ValueError, match="linear kernel"):
        _ = doubled.weights


def test_single_precision():
    x, y = data("iris")
    machine = svm.fit_dual(x.astype(jnp.float32), y.astype(jnp.float32), 1.0)
    assert machine.alpha.dtype == jnp.float32
    assert abs(machine.dual_value - 0.97525) <= 1e-3


def test_bad_input():
    x, y = data("iris")
    with pytest.raises(ValueError, match="labels -1 and 1"):
        svm.fit_dual(x, (y + 1) / 2, 1.0)
    with pytest.raises(ValueError, match="c: expected a number > 0, got 0"):
        svm.fit_dual(x, y, 0.0)
    with pytest.raises(ValueError, match="x, y: expected shapes"):
        svm.fit_dual(x, y[:-1], 1.0)
    with pytest.raises(ValueError, match="kernel: expected one of linear, polynomial, rbf"):
        svm.fit_dual(x, y, 1.0, "sigmoid")
    with pytest.raises(ValueError, match=r"x: expected shape \(m, 4\)"):
        svm.fit_dual(x, y, 1.0).decision(x[:, :3])


def test_support_vectors_at_any_penalty():
    """Those whose examples are within the margin or on it, whether C is 1e-6 or 1e8."""
    x, y = data("iris")
    separated = []
    for c in (1e-6, 1.0, 1e4, 1e8):
        machine = svm.fit_dual(x, y, c)
        margins, support = np.asarray(y * machine.decision(x)), np.asarray(machine.support)
        assert np.all(margins[support] <= 1 + 1e-4)
        assert np.all(support[margins < 1 - 1e-4])
        separated.append(support.sum())
    assert separated[2] == separated[3] > 0


def test_a_kernel_that_is_not_semidefinite_is_refused():
    """-x . z, and one that is not symmetric; under jit no machine is called converged."""
    x, y = data("iris")
    for kernel in (lambda a, b: -(a @ b.T), lambda a, b: (a + 1) @ (b - 1).T):
        with pytest.raises(ValueError, match="kernel: expected a symmetric, positive semidefinite"):
            svm.fit_dual(x, y, kernel=kernel)
    assert not jax.jit(lambda x: svm.fit_dual(x, y, kernel=lambda a, b: -(a @ b.T), iterations=20).converged)(x)
    with pytest.raises(ValueError, match="x: expected at least one example"):
        svm.fit_primal(jnp.zeros((0, 2)), jnp.zeros(0))
