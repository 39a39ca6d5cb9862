"""calculus and integrals: exact values that every text has."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import calculus, integrals
from tests.settings.values import Example

PI = math.pi


def field(x):
    return jnp.stack([x[0] * x[1], x[1] * x[2], x[2] * x[0]])


def cubic(x):
    """f = 3 x^3 - y^2 + 5 x + 2."""
    return 3 * x[0] ** 3 - x[1] ** 2 + 5 * x[0] + 2


def _compose(v):
    chain = calculus.compose(lambda u: 3 * u**5, lambda x: 2 * x**2)
    return (chain(v.number(0.5)), chain.derivative(v.number(0.5))), (3 * 0.5**5, 960 * 0.5**9)


def _differential(v):
    x, dx = v.number(2.0), v.number(0.25)
    return calculus.differential(lambda x: x**3, x)(dx), 3.0


def _limit(v):
    found = calculus.limit(lambda x: jnp.sin(x) / x, 0.0)
    none = calculus.limit(lambda x: jnp.abs(x) / x, 0.0)
    return (found.exists, found.value, none.exists, none.left, none.right), (True, 1.0, False, -1.0, 1.0)


def _sides(v):
    found = calculus.one_sided_derivatives(jnp.abs, v.number(0.0))
    return (found.left.value, found.right.value), (-1.0, 1.0)


def _ascent(v):
    u, rate = calculus.steepest_ascent(lambda x: 3 * x[0] + 4 * x[1], v.array([0.0, 0.0]))
    return (u, rate), (np.array([0.6, 0.8]), 5.0)


def _rule(rule, right, *functions):
    return Example(lambda v: (rule(*functions, v.number(2.0)), right))


def _sine_bounds(v):
    return v.number(0.0), v.number(PI)


EXAMPLES = {
    "calculus.limit": Example(_limit, (1e-9, 1e-9)),
    "calculus.limit_of_sequence": Example(
        lambda v: (calculus.limit_of_sequence(lambda n: (1 + 1 / n) ** n).value, math.e), (1e-6, 1e-8)
    ),
    "calculus.derivative": Example(
        lambda v: (calculus.derivative(lambda x: x**2, v.number(3.0)).value, 6.0), (1e-4, 1e-8)
    ),
    "calculus.one_sided_derivatives": Example(_sides, (1e-4, 1e-8)),
    "calculus.differential": Example(_differential),
    "calculus.partial": Example(lambda v: (calculus.partial(cubic, v.array([1.0, 2.0]), 0), 14.0)),
    "calculus.gradient": Example(lambda v: (calculus.gradient(cubic, v.array([1.0, 2.0])), np.array([14.0, -4.0]))),
    "calculus.directional_derivative": Example(
        lambda v: (calculus.directional_derivative(cubic, v.array([1.0, 2.0]), v.array([1.0, 1.0])), 10.0)
    ),
    "calculus.jacobian": Example(
        lambda v: (calculus.jacobian(field, v.array([1.0, 2.0, 3.0])), np.array([[2.0, 1, 0], [0, 3, 2], [3, 0, 1]]))
    ),
    "calculus.hessian": Example(
        lambda v: (calculus.hessian(cubic, v.array([1.0, 2.0])), np.array([[18.0, 0.0], [0.0, -2.0]]))
    ),
    "calculus.divergence": Example(lambda v: (calculus.divergence(field, v.array([1.0, 2.0, 3.0])), 6.0)),
    "calculus.curl": Example(lambda v: (calculus.curl(field, v.array([1.0, 2.0, 3.0])), np.array([-2.0, -3.0, -1.0]))),
    "calculus.laplacian": Example(lambda v: (calculus.laplacian(cubic, v.array([1.0, 2.0])), 16.0)),
    "calculus.steepest_ascent": Example(_ascent),
    "calculus.compose": Example(_compose),
    "calculus.total_derivative": Example(
        lambda v: (
            calculus.total_derivative(lambda y, u: y * u, (lambda x: x, jnp.sin), v.number(1.2)).total,
            math.sin(1.2) + 1.2 * math.cos(1.2),
        )
    ),
    "calculus.taylor": Example(
        lambda v: (calculus.taylor(jnp.exp, v.number(0.0), 5), 1 / np.array([1.0, 1, 2, 6, 24, 120]))
    ),
    "calculus.sum_rule": _rule(calculus.sum_rule, 4 + math.cos(2), lambda x: x**2, jnp.sin),
    "calculus.product_rule": _rule(calculus.product_rule, 4 * math.sin(2) + 4 * math.cos(2), lambda x: x**2, jnp.sin),
    "calculus.quotient_rule": _rule(
        calculus.quotient_rule, (4 * math.sin(2) - 4 * math.cos(2)) / math.sin(2) ** 2, lambda x: x**2, jnp.sin
    ),
    "calculus.chain_rule": _rule(calculus.chain_rule, 2 * math.sin(2) * math.cos(2), lambda x: x**2, jnp.sin),
    "calculus.power_rule": Example(
        lambda v: (calculus.power_rule(lambda x: 2 * x + 1, 3, v.number(1.0)), 3 * 9.0 * 2.0)
    ),
    "calculus.inverse_rule": Example(lambda v: (calculus.inverse_rule(lambda x: x**3, v.number(2.0)), 1 / 12)),
}


def _integral(fun, right, *arguments, heavy=False, **settings):
    return Example(lambda v: _sure(fun(*arguments, **settings), right), (1e-6, 1e-9), heavy)


def _sure(found, right):
    return (found.value, found.converged), (right, True)


def arc(x):
    return jnp.sqrt(jnp.maximum(1 - x * x, 0.0))


def circle(t):
    return jnp.stack([jnp.cos(t), jnp.sin(t)])


def _leibniz(v):
    return _sure(integrals.leibniz(lambda x, t: x * t, 0.0, lambda t: t, v.number(2.0)), 6.0)


def _attributions(v):
    found = integrals.integrated_gradients(lambda x: x[0] * x[1], v.array([2.0, 3.0]))
    return found.attributions, np.array([3.0, 3.0])


def _expectation(v):
    """d/dmu E (x - 1)^2 at mu = 0, sigma = 1 is -2; with 4000 samples a tenth is five standard errors."""
    theta = {"mean": v.number(0.0), "scale": v.number(1.0)}
    found = integrals.expectation_gradient(lambda x: (x - 1) ** 2, "gaussian", theta, v.key(), samples=4000)
    return abs(float(found.gradient["mean"]) + 2) < 0.3, True


def _smooth_grad(v):
    found = integrals.smooth_grad(lambda x: jnp.sum(x**2), v.array([1.0, 2.0]), v.key(), noise=0.1, samples=400)
    return bool(np.all(abs(np.asarray(found.gradient) - [2.0, 4.0]) < 0.1)), True


def _centroid(v):
    found = integrals.centroid(lambda x: x, 0.0, 1.0)
    return (found.x.value, found.y.value), (2 / 3, 1 / 3)


EXAMPLES |= {
    "integrals.integrate": Example(lambda v: _sure(integrals.integrate(jnp.sin, *_sine_bounds(v)), 2.0), (1e-6, 1e-9)),
    "integrals.integrate, jitted": Example(
        lambda v: (jax.jit(lambda b: integrals.integrate(jnp.sin, 0.0, b).value)(v.array(PI)), 2.0), (1e-5, 1e-9), True
    ),
    "integrals.area_under": _integral(integrals.area_under, 4.0, jnp.sin, 0.0, 2 * PI),
    "integrals.area_between": _integral(integrals.area_between, 4 * 2**0.5, jnp.sin, jnp.cos, 0.0, 2 * PI),
    "integrals.arc_length": _integral(integrals.arc_length, 2 * PI, circle, 0.0, 2 * PI),
    "integrals.volume_of_revolution": _integral(integrals.volume_of_revolution, 4 * PI / 3, arc, -1.0, 1.0),
    "integrals.surface_of_revolution": _integral(integrals.surface_of_revolution, PI * 2**0.5, lambda x: x, 0.0, 1.0),
    "integrals.volume_by_cross_sections": _integral(
        integrals.volume_by_cross_sections, 4 * PI / 3, lambda x: PI * (1 - x * x), -1.0, 1.0
    ),
    "integrals.volume_under_surface": _integral(
        integrals.volume_under_surface, 0.25, lambda x, y: x * y, [(0.0, 1.0), (0.0, 1.0)], heavy=True
    ),
    "integrals.integrate_region": _integral(
        integrals.integrate_region, 1 / 8, lambda x, y: x * y, [(0.0, 1.0), (0.0, lambda x: x)], heavy=True
    ),
    "integrals.centroid": Example(_centroid, (1e-6, 1e-9)),
    "integrals.leibniz": Example(_leibniz, (1e-5, 1e-9)),
    "integrals.antiderivative": Example(
        lambda v: (integrals.antiderivative(jnp.cos, 0.0)(v.number(1.0)), math.sin(1.0)), (1e-6, 1e-9)
    ),
    "integrals.net_change": _integral(integrals.net_change, math.sin(2.0) - math.sin(-1.0), jnp.sin, -1.0, 2.0),
    "integrals.line_integral": _integral(
        integrals.line_integral, 2 * PI, lambda r: jnp.stack([-r[1], r[0]]), circle, 0.0, 2 * PI
    ),
    "integrals.potential_difference": _integral(integrals.potential_difference, -2.0, lambda r: r[0], circle, 0.0, PI),
    "integrals.integrated_gradients": Example(_attributions),
    "integrals.saliency": Example(
        lambda v: (integrals.saliency(lambda x: jnp.sum(x**3), v.array([1.0, -2.0])), np.array([3.0, 12.0]))
    ),
    "integrals.smooth_grad": Example(_smooth_grad),
    "integrals.expectation_gradient": Example(_expectation),
}
