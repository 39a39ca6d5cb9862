"""Programs whose value or gradient is NaN or infinite, and programs that only look so.

CASES: name -> Case; the line where it happens ends in `# here`.  CONTROLS: name -> (function, arguments), finite in
value
and gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

F32 = np.float32
Z = np.array([1.0, 0.0, 2.0], F32)
ONES = np.ones(3, F32)
BIG = np.array([1000.0, 1.0, 2.0], F32)


@dataclass(frozen=True)
class Case:
    """A program, where it is run, and what must be found.

    Fields:
      fun, args: the program.
      direction: "forward" or "backward".
      hidden: the number that is not finite is left out by a mask, so that the gradient alone shows it.
      words: what the mechanism must say.
      verified: the suggested rewrite must have been run with success.
    """

    fun: Callable
    args: tuple
    direction: str
    words: str
    verified: bool = True
    hidden: bool = False


def masked_root(x):
    y = jnp.sqrt(x)  # here
    return jnp.sum(jnp.where(x > 0, y, 0.0))


def masked_log(x):
    safe = x > 0
    return jnp.sum(jnp.where(safe, x * jnp.log(x), 0.0))  # here


def sinc(x):
    return jnp.sum(jnp.where(x == 0, 1.0, jnp.sin(x) / x))  # here


def masked_power(x):
    roots = x**0.5  # here
    return jnp.sum(jnp.where(x > 0, roots, 0.0))


def masked_arccos(x):
    angle = jnp.arccos(x)  # here
    return jnp.sum(jnp.where(jnp.abs(x) < 1, angle, 0.0))


def masked_exp(x):
    y = jnp.exp(x)  # here
    return jnp.sum(jnp.where(x < 10, y, 0.0))


def masked_rsqrt(x):
    inverse = lax.rsqrt(x)  # here
    return jnp.sum(jnp.where(x > 0, inverse, 0.0))


def masked_reciprocal(x):
    return jnp.sum(jnp.where(x > 0, 1 / x, 0.0))  # here


def masked_square_reciprocal(x):
    inverse = x**-2  # here
    return jnp.sum(jnp.where(x != 0, inverse, 0.0))


def masked_log1p(x):
    y = jnp.log1p(-x)  # here
    return jnp.sum(jnp.where(x < 1, y, 0.0))


def norm_of_zero(x):
    difference = x - 1.0
    return jnp.linalg.norm(difference)  # here


def norm_by_hand(x):
    squares = jnp.sum((x - 1.0) ** 2)
    return jnp.sqrt(squares)  # here


def deviation(x):
    return jnp.std(x)  # here


def distances(x):
    gaps = x[:, None] - x[None, :]
    return jnp.sum(jnp.sqrt(gaps**2))  # here


def cosine(x):
    return jnp.vdot(x, ONES) / (jnp.linalg.norm(x) * jnp.linalg.norm(ONES))  # here


def normalised(x):
    size = jnp.sum(x)
    return x / size  # here


def softmax(x):
    e = jnp.exp(x)  # here
    return e / jnp.sum(e)


def entropy(x):
    p = jax.nn.softmax(x)
    return -jnp.sum(p * jnp.log(p))  # here


def cross_entropy(x):
    p = jax.nn.sigmoid(x)
    return -jnp.mean(jnp.log(1 - p))  # here


def log_of_sum(x):
    return jnp.log(jnp.sum(jnp.exp(x)))  # here


def softplus(x):
    return jnp.sum(jnp.log(1 + jnp.exp(x)))  # here


def variance_below_zero(x):
    variance = jnp.mean(x**2) - jnp.mean(x) ** 2 - 1.0
    return jnp.sqrt(variance)  # here


def log_of_negative(x):
    shifted = x - 3.0
    return jnp.sum(jnp.log(shifted))  # here


def masked_row(x):
    logits = x + jnp.full(3, -jnp.inf)
    return jnp.max(jax.nn.softmax(logits))  # here


def half_overflow(x):
    h = x.astype(jnp.float16)
    return jnp.sum(h * h)  # here


def cast_overflow(x):
    return jnp.sum(x.astype(jnp.float16))  # here


def in_scan(x):
    def step(total, v):
        total = total + jnp.log(v)  # here
        return total, total

    return lax.scan(step, jnp.zeros((), F32), x)[0]


def in_scan_backward(x):
    def step(total, v):
        root = jnp.sqrt(v)  # here
        return total + root, None

    return lax.scan(step, jnp.zeros((), F32), x)[0]


def in_while(x):
    def body(state):
        i, v = state
        return i + 1, v * v * 1e3  # here

    return jnp.sum(lax.while_loop(lambda s: s[0] < 40, body, (0, x))[1])


def in_fori(x):
    return jnp.sum(lax.fori_loop(0, 2, lambda i, v: 1 / (v - 1), x))  # here


def in_cond(x):
    def taken(x):
        return jnp.sum(jnp.log(x))  # here

    return lax.cond(jnp.sum(x) > 0, taken, jnp.sum, x)


def in_cond_backward(x):
    return lax.cond(
        jnp.sum(x) > 0,
        lambda x: jnp.sum(jnp.sqrt(x)),  # here
        jnp.sum,
        x,
    )


def in_vmap(x):
    def one(v):
        return jnp.where(v > 0, jnp.sqrt(v), 0.0)  # here

    return jnp.sum(jax.vmap(one)(x))


@jax.jit
def in_jit(x):
    y = x * 2.0
    return jnp.sum(jnp.log(y))  # here


@jax.jit
def in_jit_backward(x):
    y = jnp.abs(x) ** 0.5  # here
    return jnp.sum(y)


@jax.checkpoint
def in_checkpoint(x):
    y = jnp.sin(x)
    return jnp.sum(jnp.sqrt(y))  # here


def jit_in_scan(x):
    @jax.jit
    def root(v):
        return v**0.3  # here

    return lax.scan(lambda c, v: (c + root(v), None), jnp.zeros((), F32), x)[0]


def arccos_at_one(x):
    return jnp.sum(jnp.arccos(x / 2.0))  # here


def arctanh_at_one(x):
    return jnp.sum(jnp.arctanh(x / 2.0))  # here


def angle_of_zero(x):
    return jnp.sum(jnp.arctan2(x, x * 0.0))  # here


def power_of_zero(x):
    return jnp.sum(x ** (x * 0.5 - 0.5))  # here


def repeated_eigenvalues(x):
    matrix = jnp.eye(3) * jnp.sum(x)
    return jnp.sum(jnp.linalg.eigh(matrix)[1])  # here


def not_positive_definite(x):
    matrix = -jnp.eye(3) * jnp.sum(x)
    return jnp.sum(jnp.linalg.cholesky(matrix))  # here


def cube_root(x):
    return jnp.sum(jnp.cbrt(x))  # here


def overflow_of_product(x):
    return jnp.prod(x * 1e20)  # here


def tiny_divisor(x):
    small = x * 1e-30
    return jnp.sum(1e-30 / small[::2])  # here


# --- as people reported them: of a repository, the number of the issue


def root_in_one_branch(x):  # jax 5798
    return jnp.sum(jnp.where(x < 1, x, jnp.sqrt(x)))  # here


def lengths_then_where(x):  # jax 347
    rows = jnp.stack([x, 0 * x])
    lengths = jnp.sqrt(jnp.sum(rows**2, axis=1))  # here
    return jnp.sum(jnp.where(lengths > 0.5, lengths, 1.0))


def pair_energies(x):  # jax 654, 3407
    gaps = x[:, None] - x[None, :]
    r = jnp.sqrt(gaps**2)  # here
    keep = 1 - jnp.eye(3)
    r = jnp.where(keep, r, 0.0)
    return jnp.sum(jnp.where(keep, 1 / r, 0.0))


def squared_norm(x):  # jax 21723
    return jnp.linalg.norm(x) ** 2  # here


def normal_log_density(x):
    scale = jnp.abs(x) * 0.0
    z = (x - 0.5) / scale  # here
    return jnp.sum(-0.5 * z**2)


def divergence(x):
    p = jnp.array([0.0, 0.5, 0.5]) * x
    logs = jnp.log(p)  # here
    return jnp.sum(p * logs)


def gumbel(x):
    u = jax.nn.relu(x)
    inner = jnp.log(u)  # here
    return jnp.sum(-jnp.log(-inner))


def mask_by_product(x):
    logs = jnp.log(x)  # here
    return jnp.sum(logs * x)


def mean_of_few(x):
    count = jnp.sum(x > 5) * 1.0
    mean = jnp.sum(x) / count  # here
    return jnp.where(count > 0, mean, 0.0)


def nothing_left(x):
    weights = jnp.exp(x - 1000.0)
    total = jnp.sum(weights)
    return jnp.log(total)  # here


def inverse_softplus(x):
    grown = jnp.expm1(x)  # here
    return jnp.sum(jnp.log(grown))


def normal_quantile(x):
    return jnp.sum(jax.scipy.special.erfinv(x))  # here


def unit_rows(x):
    def one(row):
        return row / jnp.sqrt(jnp.sum(row**2))  # here

    return jnp.sum(jax.vmap(one)(jnp.stack([x, 0 * x])))


def axis_angle(x):
    w = jnp.clip(x, -1.0, 1.0)
    return jnp.sum(2 * jnp.arccos(w))  # here


def signed_root(x):
    size = jnp.sqrt(jnp.abs(x))  # here
    return jnp.sum(jnp.sign(x) * size)


def beta_density(x):
    return jnp.sum(x ** (0.5 - 1) * (1 - x) ** 2)  # here


def newton(x):
    def body(i, v):
        return v - (v**2 - 2) / (2 * v - 2)  # here

    return jnp.sum(lax.fori_loop(0, 3, body, x))


def geometric_mean(x):
    logs = jnp.log(x)  # here
    return jnp.exp(jnp.mean(logs))


def carried_length(x):
    def step(h, v):
        length = jnp.linalg.norm(h)  # here
        return h + v * length, length

    return jnp.sum(lax.scan(step, jnp.zeros(3, F32) * x, x)[1])


def student_t(x):
    tail = jnp.power(jnp.abs(x), 0.5)  # here
    return jnp.sum(jnp.log1p(tail))


def half_variance(x):
    h = x.astype(jnp.float16)
    squares = h**2  # here
    return jnp.mean(squares).astype(F32)


def schedule(x):
    ratio = jnp.arange(3) / x  # here
    return jnp.sum(jnp.where(jnp.isfinite(ratio), ratio, 0.0))


def haversine(x):
    chord = jnp.sqrt(jnp.sin(x / 2) ** 2)  # here
    return jnp.sum(2 * jnp.arcsin(chord))


CASES = {
    "masked_root": Case(masked_root, (Z,), "backward", "unselected"),
    "masked_log": Case(masked_log, (Z,), "forward", "unselected", hidden=True),
    "sinc": Case(sinc, (Z,), "forward", "unselected", hidden=True),
    "masked_power": Case(masked_power, (Z,), "backward", "unselected"),
    "masked_arccos": Case(masked_arccos, (Z / 2,), "backward", "unselected"),
    "masked_exp": Case(masked_exp, (BIG,), "forward", "unselected", hidden=True),
    "masked_rsqrt": Case(masked_rsqrt, (Z,), "forward", "unselected", hidden=True),
    "masked_reciprocal": Case(masked_reciprocal, (Z,), "forward", "unselected", hidden=True),
    "masked_square_reciprocal": Case(masked_square_reciprocal, (Z,), "forward", "unselected", hidden=True),
    "masked_log1p": Case(masked_log1p, (Z / 2,), "forward", "unselected", hidden=True),
    "norm_of_zero": Case(norm_of_zero, (ONES,), "backward", "norm"),
    "norm_by_hand": Case(norm_by_hand, (ONES,), "backward", "norm"),
    "deviation": Case(deviation, (ONES,), "backward", "root"),
    "distances": Case(distances, (Z,), "backward", "root"),
    "cosine": Case(cosine, (0 * ONES,), "forward", "division by zero", verified=False),
    "normalised": Case(normalised, (0 * ONES,), "forward", "division by zero"),
    "softmax": Case(softmax, (BIG,), "forward", "overflow of exp"),
    "entropy": Case(entropy, (BIG,), "forward", "log of 0"),
    "cross_entropy": Case(cross_entropy, (BIG,), "forward", "log of 0"),
    "log_of_sum": Case(log_of_sum, (BIG,), "forward", "overflow of exp", verified=False),
    "softplus": Case(softplus, (BIG,), "forward", "overflow of exp", verified=False),
    "variance_below_zero": Case(variance_below_zero, (ONES,), "forward", "negative"),
    "log_of_negative": Case(log_of_negative, (ONES,), "forward", "negative"),
    "masked_row": Case(masked_row, (ONES,), "forward", "inf - inf", verified=False),
    "half_overflow": Case(half_overflow, (BIG,), "forward", "overflow", verified=False),
    "cast_overflow": Case(cast_overflow, (BIG * 1000,), "forward", "overflow", verified=False),
    "in_scan": Case(in_scan, (Z,), "forward", "log of 0"),
    "in_scan_backward": Case(in_scan_backward, (Z,), "backward", "root"),
    "in_while": Case(in_while, (ONES,), "forward", "overflow", verified=False),
    "in_fori": Case(in_fori, (2 * ONES,), "forward", "division by zero"),
    "in_cond": Case(in_cond, (Z,), "forward", "log of 0"),
    "in_cond_backward": Case(in_cond_backward, (Z,), "backward", "root"),
    "in_vmap": Case(in_vmap, (Z,), "backward", "unselected"),
    "in_jit": Case(in_jit, (Z,), "forward", "log of 0"),
    "in_jit_backward": Case(in_jit_backward, (Z,), "backward", "x = 0"),
    "in_checkpoint": Case(in_checkpoint, (Z,), "backward", "root"),
    "jit_in_scan": Case(jit_in_scan, (Z,), "backward", "x = 0"),
    "arccos_at_one": Case(arccos_at_one, (Z,), "backward", "acos"),
    "arctanh_at_one": Case(arctanh_at_one, (Z,), "forward", "atanh"),
    "angle_of_zero": Case(angle_of_zero, (Z,), "backward", "atan2"),
    "power_of_zero": Case(power_of_zero, (np.array([0.0, 2.0], F32),), "forward", "power of 0"),
    "repeated_eigenvalues": Case(repeated_eigenvalues, (ONES,), "backward", "repeated eigenvalues", verified=False),
    "not_positive_definite": Case(not_positive_definite, (ONES,), "forward", "positive definite", verified=False),
    "cube_root": Case(cube_root, (Z,), "backward", "root"),
    "overflow_of_product": Case(overflow_of_product, (ONES,), "forward", "overflow", verified=False),
    "tiny_divisor": Case(tiny_divisor, (Z[::2],), "backward", "tiny", verified=False),
    "root_in_one_branch": Case(root_in_one_branch, (Z,), "backward", "unselected"),
    "lengths_then_where": Case(lengths_then_where, (Z,), "backward", "root"),
    "pair_energies": Case(pair_energies, (Z,), "backward", "root"),
    "squared_norm": Case(squared_norm, (0 * ONES,), "backward", "norm"),
    "normal_log_density": Case(normal_log_density, (Z,), "forward", "division by zero"),
    "divergence": Case(divergence, (ONES,), "forward", "log of 0"),
    "gumbel": Case(gumbel, (Z / 4,), "forward", "log of 0"),
    "mask_by_product": Case(mask_by_product, (Z,), "forward", "log of 0"),
    "mean_of_few": Case(mean_of_few, (Z,), "forward", "division by zero", hidden=True),
    "nothing_left": Case(nothing_left, (ONES,), "forward", "log of 0"),
    "inverse_softplus": Case(inverse_softplus, (BIG,), "forward", "overflow of exp", verified=False),
    "normal_quantile": Case(normal_quantile, (Z / 2,), "forward", "erf_inv"),
    "unit_rows": Case(unit_rows, (Z,), "forward", "division by zero", verified=False),
    "axis_angle": Case(axis_angle, (Z / 2,), "backward", "acos"),
    "signed_root": Case(signed_root, (Z,), "backward", "root"),
    "beta_density": Case(beta_density, (Z / 3,), "forward", "power of 0"),
    "newton": Case(newton, (ONES,), "forward", "division by zero"),
    "geometric_mean": Case(geometric_mean, (Z,), "forward", "log of 0", verified=False, hidden=True),
    "carried_length": Case(carried_length, (Z,), "backward", "norm"),
    "student_t": Case(student_t, (Z,), "backward", "x = 0"),
    "half_variance": Case(half_variance, (BIG,), "forward", "overflow", verified=False),
    "haversine": Case(haversine, (Z,), "backward", "root"),
    "schedule": Case(schedule, (Z,), "forward", "division by zero", hidden=True),
}


def _double_where(x):
    safe = jnp.where(x > 0, x, 1.0)
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(safe), 0.0))


def _masked_softmax(x):
    return jnp.max(jax.nn.softmax(jnp.where(jnp.array([True, False, True]), x, -jnp.inf)))


def _scan_with_infinite_start(x):
    return lax.scan(lambda best, v: (jnp.minimum(best, v), None), jnp.float32(jnp.inf), x)[0]


CONTROLS = {
    "double where": (_double_where, (Z,)),
    "masked softmax": (_masked_softmax, (Z,)),
    "minimum from infinity": (_scan_with_infinite_start, (Z,)),
    "logsumexp of the huge": (jax.nn.logsumexp, (BIG,)),
    "log_softmax of the huge": (lambda x: jax.nn.log_softmax(x)[0], (BIG,)),
    "norm": (jnp.linalg.norm, (Z,)),
    "relu at 0": (lambda x: jnp.sum(jax.nn.relu(x)), (Z,)),
    "absolute values": (lambda x: jnp.sum(jnp.abs(x)), (Z,)),
    "sinc of the library": (lambda x: jnp.sum(jnp.sinc(x)), (Z,)),
    "xlogy": (lambda x: jnp.sum(jax.scipy.special.xlogy(x, x + 1)), (Z,)),
    "softplus": (lambda x: jnp.sum(jax.nn.softplus(x)), (BIG,)),
    "sigmoid cross-entropy": (lambda x: jnp.mean(jax.nn.log_sigmoid(-x)), (BIG,)),
    "max of minus infinity": (lambda x: jnp.max(jnp.concatenate([x, -jnp.full(2, np.inf, F32)])), (Z,)),
    "matrix product": (lambda x: jnp.sum(jnp.outer(x, x) @ x), (Z,)),
    "cholesky": (lambda x: jnp.sum(jnp.linalg.cholesky(jnp.outer(x, x) + jnp.eye(3))), (Z,)),
    "while": (lambda x: jnp.sum(lax.fori_loop(0, 5, lambda i, v: jnp.sin(v), x)), (Z,)),
    "integers": (lambda x, n: jnp.sum(x[n]), (Z, np.array([0, 1]))),
    "clip before arccos": (lambda x: jnp.sum(jnp.arccos(jnp.clip(x, -0.9, 0.9))), (Z,)),
    "infinite argument that is not used": (lambda x, y: jnp.sum(x), (Z, np.array(np.inf, F32))),
    "stopped gradient": (lambda x: jnp.sum(jnp.where(x > 0, lax.stop_gradient(jnp.sqrt(x)), x)), (Z,)),
    "no slope": (lambda x: jnp.sum(jnp.where(x > 0, jnp.floor(jnp.cbrt(x)), x)), (Z,)),
    "reciprocal kept back": (lambda x: jnp.sum(jnp.where(x > 0, 1 / jnp.where(x > 0, x, 0), 0)), (Z,)),
    "logarithm kept back": (lambda x: jnp.sum(jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 0)), 0)), (Z,)),
    "root kept back in a scan": (
        lambda x: lax.scan(
            lambda c, v: (c + jnp.where(v > 0, jnp.sqrt(jnp.where(v > 0, v, 0)), 0), None), jnp.zeros((), F32), x
        )[0],
        (Z,),
    ),
    "where over a constant": (lambda x: jnp.sum(jnp.where(x > 5, np.inf, x)), (Z,)),
}
