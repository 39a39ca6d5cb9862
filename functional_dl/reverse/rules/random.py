"""Random numbers: bits are constants; samplers are differentiated in their parameters, at fixed bits."""

import jax
import numpy as np
from jax import lax
from jax.extend.core.primitives import (
    bitcast_convert_type_p,
    random_bits_p,
    random_fold_in_p,
    random_gamma_p,
    random_seed_p,
    random_split_p,
    rng_bit_generator_p,
    rng_uniform_p,
    threefry2x32_p,
)

from functional_dl.jaxprs import primitive_of
from functional_dl.reverse.rule import Probe, vjp_rule, zero_derivative
from functional_dl.reverse.rules.algebra import full_like, number, plus

_KEY = 7  # any seed


def _sampler(log_space):
    def sample(a):
        return random_gamma_p.bind(jax.random.key(_KEY), a, log_space=log_space)

    return sample


@vjp_rule(
    random_gamma_p,
    Probe(_sampler(False), low=0.5, high=4.0, dtypes=("float64",), order=1, smooth=False),
    Probe(_sampler(True), low=0.5, high=4.0, dtypes=("float64",), order=1, smooth=False),
    reads="out a",
    latex=(
        r"\gamma \sim \operatorname{Gamma}(<1>)",
        "0",
        r"-<c> \odot \frac{\partial_{<1>} P(<1>, <y>)}{\partial_{<y>} P(<1>, <y>)}",
    ),
)
def random_gamma_vjp(ct, out, key, a, *, log_space, **_):
    """z with P(a, z) = u at fixed u (P the regularised incomplete gamma integral, z ~ Gamma(a)):  the implicit function

      dP/da da + p(z) dz = 0  =>  a_bar = -(dP/da) / p(z) z_bar,   and in log space (out = log z) that over z.

    Where z is too small for a float, P = z^a / Gamma(a + 1) and so d log z / da = (psi(a + 1) - log z) / a.
    Source: Figurnov, Mohamed and Mnih, Implicit reparameterization gradients, 2018.
    """

    def a_bar():
        if not log_space:
            return lax.mul(ct, lax.random_gamma_grad(a, out))  # pyright: ignore[reportCallIssue]
        tiny = number(np.finfo(np.float32 if a.dtype != np.float64 else np.float64).tiny, a)
        z = lax.exp(out)
        lost = lax.lt(z, tiny)
        z = lax.select(lost, full_like(z, tiny), z)
        slope = lax.div(lax.random_gamma_grad(a, z), z)  # pyright: ignore[reportCallIssue]
        limit = lax.div(lax.sub(lax.digamma(plus(1, a)), out), a)
        return lax.mul(ct, lax.select(lost, limit, slope))

    return None, a_bar


zero_derivative(
    "random bits and keys are constants to the parameters: samplers are differentiated at fixed bits",
    random_bits_p,
    random_seed_p,
    random_split_p,
    random_fold_in_p,
    rng_bit_generator_p,
    threefry2x32_p,
    primitive_of(jax.random.key_data, jax.eval_shape(jax.random.key, 0)),
    primitive_of(jax.random.wrap_key_data, np.zeros(2, np.uint32)),
)
zero_derivative("a step function of its bounds' bits (deprecated sampler): a constant, as in JAX", rng_uniform_p)
zero_derivative("the bits of a number, read as another type: a step function of it", bitcast_convert_type_p)
