"""Entry by entry: activations and simple arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from experiments.corpus.case import WIDE, Fault, operation

INV_ROOT_2PI = float(1 / np.sqrt(2 * np.pi))


def _plain(draw):
    return (draw.normal(4, 6),)


def _pair(draw):
    return draw.normal(4, 6), draw.normal(4, 6)


@operation(
    _plain,
    no_density=Fault("missing_term", note="Phi(x) alone: the product rule's x phi(x) is left out"),
    at_output=Fault("wrong_point"),
    negative=Fault("sign"),
    half_residual=Fault("precision", dtypes=WIDE, note="x is saved in float16"),
)
def gelu(fault):
    def fun(x):
        return x * 0.5 * (1 + erf(x * 0.7071067811865476))

    def fun_vjp(x):
        saved = fun(x) if fault == "at_output" else x
        saved = saved.astype(jnp.float16).astype(x.dtype) if fault == "half_residual" else saved

        def pullback(ct):
            cdf = 0.5 * (1 + erf(saved * 0.7071067811865476))
            density = INV_ROOT_2PI * jnp.exp(-saved * saved / 2)
            slope = cdf if fault == "no_density" else cdf + saved * density
            return (-ct * slope if fault == "negative" else ct * slope,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    _plain,
    no_inner_square=Fault("missing_factor", note="the inner function's 3 a x^2 is left out"),
    exact_form=Fault("unknown", also=("precision", "wrong_point"), dtypes=WIDE, note="the slope of the other GELU"),
    output_for_tanh=Fault("wrong_point"),
)
def gelu_tanh(fault):
    c, a = 0.7978845608028654, 0.044715

    def fun(x):
        return 0.5 * x * (1 + jnp.tanh(c * (x + a * x**3)))

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            if fault == "exact_form":
                slope = 0.5 * (1 + erf(x * 0.7071067811865476)) + x * INV_ROOT_2PI * jnp.exp(-x * x / 2)
                return (ct * slope,)
            t = jnp.tanh(c * (x + a * x**3))
            inner = c if fault == "no_inner_square" else c * (1 + 3 * a * x * x)
            t_or_out = out if fault == "output_for_tanh" else t
            return (ct * (0.5 * (1 + t) + 0.5 * x * (1 - t_or_out**2) * inner),)

        return out, pullback

    return fun, fun_vjp


@operation(
    _plain,
    no_product_rule=Fault("missing_term"),
    sigmoid_of_output=Fault("wrong_point"),
    ignores_ct=Fault("ignored_cotangent"),
    half_dtype=Fault("dtype", dtypes=WIDE, note="the kernel's half-precision result is not cast back"),
)
def silu(fault):
    def fun(x):
        return x * jax.nn.sigmoid(x)

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            s = jax.nn.sigmoid(out if fault == "sigmoid_of_output" else x)
            slope = s if fault == "no_product_rule" else s + x * s * (1 - s)
            if fault == "ignores_ct":
                return (slope,)
            bar = ct * slope
            return (bar.astype(jnp.float16) if fault == "half_dtype" else bar,)

        return out, pullback

    return fun, fun_vjp


@operation(
    _plain,
    slope_from_input=Fault("wrong_point", note="y(1 - y) with the input for y"),
    slope_before_last=Fault("primal", "", note="the forward pass returns the pre-activation"),
    squares_ct=Fault("nonlinear"),
)
def sigmoid(fault):
    def fun(x):
        return 1 / (1 + jnp.exp(-x))

    def fun_vjp(x):
        out = fun(x)
        y = x if fault == "slope_from_input" else out

        def pullback(ct):
            return ((ct * ct if fault == "squares_ct" else ct) * y * (1 - y),)

        return (x if fault == "slope_before_last" else out), pullback

    return fun, fun_vjp


@operation(
    _plain,
    input_for_output=Fault("wrong_point"),
    positive_slope=Fault("wrong_branch", also=("missing_term", "unknown"),
                         note="saturated entries are cut to zero by |y| < 0.5"),
    clips_ct=Fault("nonlinear", note="gradient clipping inside the pullback"),
    detached=Fault("zero"),
)  # fmt: skip
def tanh(fault):
    def fun(x):
        return jnp.tanh(x)

    def fun_vjp(x):
        y = fun(x)

        def pullback(ct):
            if fault == "detached":
                return (jnp.zeros_like(x),)
            if fault == "clips_ct":
                ct = jnp.clip(ct, -0.8, 0.8)
            slope = 1 - (x if fault == "input_for_output" else y) ** 2
            if fault == "positive_slope":
                slope = jnp.where(jnp.abs(y) < 0.5, slope, 0)
            return (ct * slope,)

        return y, pullback

    return fun, fun_vjp


def _with_zeros(draw):
    return (draw.pick([-1.5, -0.5, 0.0, 0.5, 2.0], 5, 7),)


@operation(
    _plain,
    variants={"ties": _with_zeros},
    inverted=Fault("wrong_branch"),
    guided=Fault("nonlinear", note="guided backpropagation: negative cotangents are cut too"),
    leaky=Fault("wrong_branch", note="a slope of 0.01 below zero that the function does not have"),
    two_at_zero=Fault("kink", primals=_with_zeros, note="both sides count at zero"),
    mask_of_ct=Fault("nonlinear", note="the mask is taken from the cotangent"),
)
def relu(fault):
    def fun(x):
        return jnp.maximum(x, 0)

    def fun_vjp(x):
        def pullback(ct):
            mask = (x > 0).astype(x.dtype)
            if fault == "inverted":
                mask = 1 - mask
            elif fault == "guided":
                mask = mask * (ct > 0)
            elif fault == "leaky":
                mask = jnp.where(x > 0, 1, 0.01).astype(x.dtype)
            elif fault == "two_at_zero":
                mask = mask + 2 * (x == 0)
            elif fault == "mask_of_ct":
                mask = (ct > 0).astype(x.dtype)
            return (ct * mask,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    _plain,
    variants={"ties": _with_zeros},
    no_slope=Fault("wrong_branch", note="zero below zero, as ReLU"),
    swapped_slopes=Fault("wrong_branch"),
    forward_slope=Fault("primal", "", note="the forward pass has slope 0.1 and fun 0.2"),
)
def leaky_relu(fault):
    def fun(x):
        return jnp.where(x > 0, x, 0.2 * x)

    def fun_vjp(x):
        def pullback(ct):
            if fault == "no_slope":
                return (jnp.where(x > 0, ct, 0),)
            if fault == "swapped_slopes":
                return (jnp.where(x > 0, 0.2 * ct, ct),)
            return (jnp.where(x > 0, ct, 0.2 * ct),)

        return (jnp.where(x > 0, x, 0.1 * x) if fault == "forward_slope" else fun(x)), pullback

    return fun, fun_vjp


@operation(
    _plain,
    exp_of_output=Fault("wrong_point"),
    exp_everywhere=Fault("wrong_branch"),
    no_alpha=Fault("wrong_branch", also=("scale", "missing_term", "unknown"),
                   note="the negative branch's alpha is forgotten: the slope of that branch alone is wrong"),
)  # fmt: skip
def elu(fault):
    alpha = 1.5

    def fun(x):
        return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            negative = alpha * jnp.exp(jnp.minimum(out if fault == "exp_of_output" else x, 0))
            if fault == "no_alpha":
                negative = negative / alpha
            if fault == "exp_everywhere":
                return (ct * alpha * jnp.exp(x),)
            return (ct * jnp.where(x > 0, 1, negative),)

        return out, pullback

    return fun, fun_vjp


@operation(
    _plain,
    of_output=Fault("wrong_point"),
    times_beta=Fault("scale"),
    overflow=Fault("nonfinite", dtypes=WIDE, primals=lambda d: (d.normal(4, 6, scale=500.0),),
                   note="e^z / (1 + e^z) overflows"),
)  # fmt: skip
def softplus(fault):
    beta = 2.0

    def fun(x):
        return jnp.logaddexp(beta * x, 0) / beta

    def fun_vjp(x):
        out = fun(x)

        def pullback(ct):
            if fault == "overflow":
                e = jnp.exp(beta * x)
                return (ct * e / (1 + e),)
            slope = jax.nn.sigmoid(beta * (out if fault == "of_output" else x))
            return (ct * slope * (beta if fault == "times_beta" else 1),)

        return out, pullback

    return fun, fun_vjp


@operation(
    _plain,
    passes_all=Fault("wrong_branch", note="straight through: the bounds are left out"),
    outside=Fault("wrong_branch"),
    lower_only=Fault("wrong_branch"),
    random_surrogate=Fault("unknown", also=("wrong_branch", "wrong_point"), note="a triangle in place of the box"),
)
def clip(fault):
    def fun(x):
        return jnp.clip(x, -0.8, 0.8)

    def fun_vjp(x):
        def pullback(ct):
            inside = (x >= -0.8) & (x <= 0.8)
            if fault == "passes_all":
                return (ct,)
            if fault == "outside":
                inside = ~inside
            if fault == "lower_only":
                inside = x >= -0.8
            if fault == "random_surrogate":
                return (ct * jnp.maximum(0, 1 - jnp.abs(x) / 3),)
            return (jnp.where(inside, ct, 0),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    _pair,
    swapped=Fault("wrong_point", (0, 1), also=("swapped",), note="each factor is given itself: the saved ones are "
                  "mixed up, which is a wrong saved value and not another argument's cotangent"),
    second_negative=Fault("sign", 1),
    second_none=Fault("zero", 1),
)  # fmt: skip
def product(fault):
    def fun(x, y):
        return x * y

    def fun_vjp(x, y):
        def pullback(ct):
            if fault == "swapped":
                return ct * x, ct * y
            if fault == "second_none":
                return ct * y, None
            return ct * y, (-1 if fault == "second_negative" else 1) * ct * x

        return fun(x, y), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 6), d.uniform(0.5, 2.0, 4, 6)),
    no_minus=Fault("sign", 1),
    not_squared=Fault("wrong_point", 1, also=("unknown",), note="x / y in place of x / y^2: y is 1 there"),
    output_of_other=Fault("swapped", (0, 1)),
)
def quotient(fault):
    def fun(x, y):
        return x / y

    def fun_vjp(x, y):
        def pullback(ct):
            x_bar = ct / y
            y_bar = -ct * x / (y if fault == "not_squared" else y * y)
            if fault == "no_minus":
                y_bar = -y_bar
            return (y_bar, x_bar) if fault == "output_of_other" else (x_bar, y_bar)

        return fun(x, y), pullback

    return fun, fun_vjp


def _tied(draw):
    return draw.pick([0.0, 1.0, 2.0], 6, 5), draw.pick([0.0, 1.0, 2.0], 6, 5)


@operation(
    _pair,
    variants={"ties": _tied},
    loser=Fault("wrong_branch", (0, 1), also=("swapped",), note="the loser gets it; for max this is also a swap"),
    second_always=Fault("wrong_branch", 1),
    three_at_ties=Fault("kink", (0, 1), primals=_tied, note="the tie's share is 1 + 1/2: the half is added, not set"),
)  # fmt: skip
def maximum(fault):
    def fun(x, y):
        return jnp.maximum(x, y)

    def fun_vjp(x, y):
        def pullback(ct):
            first = jnp.where(x > y, 1, jnp.where(x == y, 0.5, 0)).astype(x.dtype)
            if fault == "loser":
                first = 1 - first
            if fault == "three_at_ties":
                tie = (x == y) * 0.5
                return ct * ((x >= y) + tie).astype(x.dtype), ct * ((y >= x) + tie).astype(x.dtype)
            return ct * first, ct * (1 if fault == "second_always" else 1 - first)

        return fun(x, y), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(20),),
    variants={"zeros": lambda d: (d.pick([-2.0, 0.0, 0.5], 20),)},
    no_sign=Fault("wrong_branch"),
    quotient=Fault("nonfinite", primals=lambda d: (d.pick([-2.0, 0.0, 0.5], 20),), note="x / |x| at 0"),
    two_at_zero=Fault("kink", primals=lambda d: (d.pick([-2.0, 0.0, 0.5], 20),), note="sign(0) as x >= 0 plus 1"),
    negative=Fault("sign"),
)
def absolute(fault):
    def fun(x):
        return jnp.abs(x)

    def fun_vjp(x):
        def pullback(ct):
            sign = jnp.sign(x)
            if fault == "no_sign":
                sign = jnp.ones_like(x)
            if fault == "quotient":
                sign = x / jnp.abs(x)
            if fault == "two_at_zero":
                sign = sign + 2 * (x == 0)
            return (-ct * sign if fault == "negative" else ct * sign,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.5, 3.0, 12), d.uniform(-2, 2, 12)),
    log_of_output=Fault("wrong_point", 1),
    exponent_kept=Fault("wrong_point", 0, also=("unknown",), note="y x^y in place of y x^(y-1)"),
    no_exponent=Fault("missing_factor", 0, also=("wrong_point",), note="x^(y-1) without the factor y"),
    second_zero=Fault("zero", 1, note="the exponent is taken for a constant"),
    detached=Fault("zero", (0, 1)),
)
def power(fault):
    def fun(x, y):
        return x**y

    def fun_vjp(x, y):
        out = fun(x, y)

        def pullback(ct):
            x_bar = ct * y * x ** (y if fault == "exponent_kept" else y - 1)
            if fault == "no_exponent":
                x_bar = ct * x ** (y - 1)
            y_bar = ct * out * jnp.log(out if fault == "log_of_output" else x)
            if fault == "second_zero":
                y_bar = 0 * y_bar
            return (0 * x_bar, 0 * y_bar) if fault == "detached" else (x_bar, y_bar)

        return out, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 8), d.uniform(0, 1, 3, 8)),
    inverted_mask=Fault("wrong_branch"),
    redrawn=Fault("nondeterministic", note="the mask is drawn anew in the backward pass"),
    not_rescaled=Fault("scale", note="1 / (1 - p) is forgotten"),
    no_mask=Fault("mask_missing", also=("wrong_branch",)),
)
def dropout(fault):
    """The second argument is the noise from which the mask is made; it has no slope."""
    rate = 0.4
    generator = np.random.default_rng(5)

    def fun(x, noise):
        return jnp.where(noise >= rate, x / (1 - rate), 0)

    def fun_vjp(x, noise):
        def pullback(ct):
            keep = noise >= rate
            if fault == "inverted_mask":
                keep = ~keep
            if fault == "redrawn":
                keep = jnp.asarray(generator.uniform(size=x.shape) >= rate)
            if fault == "no_mask":
                keep = jnp.ones_like(keep)
            return jnp.where(keep, ct if fault == "not_rescaled" else ct / (1 - rate), 0), jnp.zeros_like(noise)

        return fun(x, noise), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 5),),
    difference_quotient=Fault("precision", dtypes=WIDE, note="a forward difference with a step of 1e-3"),
    no_chain=Fault("missing_factor", also=("unknown", "wrong_point", "missing_term"),
            note="the inner derivative 2x "
            "is left out: a factor"),
    cosine_of_x=Fault("wrong_point"),
)  # fmt: skip
def sine_of_square(fault):
    def fun(x):
        return jnp.sin(x * x)

    def fun_vjp(x):
        def pullback(ct):
            if fault == "difference_quotient":
                return (ct * (fun(x + 1e-3) - fun(x)) / 1e-3,)
            outer = jnp.cos(x if fault == "cosine_of_x" else x * x)
            return (ct * outer * (1 if fault == "no_chain" else 2 * x),)

        return fun(x), pullback

    return fun, fun_vjp
