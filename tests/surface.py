"""JAX's public surface as programs to trace: every elementwise function by name, and a table of calls for the rest.

SWEPT: module -> (what its functions are tried on); names come from the module itself, so that a function that newer JAX
adds is swept too.  CALLS: name -> (function, arguments) for what needs arguments of a particular kind.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

KEY = jax.random.key(0)
V = np.array([0.3, 0.5, 0.7, 0.2])
M = np.array([[2.0, 0.3, 0.1], [0.2, 3.0, 0.4], [0.5, 0.1, 4.0]])
I = np.array([2, 0, 1])
C = V + 0.1j

# each function is tried on these argument lists; the ones that it refuses are passed over
ATTEMPTS = [(V,), (V, V), (V, V, V), (M,), (M, M), (I,), (I, I), (C,), (M, V[:3]), (2.0, V), (2, V), (V, 1), (KEY, V)]

MODULES = {
    "jax.numpy": jnp,
    "jax.nn": jax.nn,
    "jax.lax": lax,
    "jax.lax.linalg": lax.linalg,
    "jax.numpy.linalg": jnp.linalg,
    "jax.numpy.fft": jnp.fft,
    "jax.scipy.special": jax.scipy.special,
    "jax.scipy.linalg": jax.scipy.linalg,
    "jax.scipy.fft": jax.scipy.fft,
    "jax.scipy.signal": jax.scipy.signal,
    "jax.scipy.ndimage": jax.scipy.ndimage,
    "jax.scipy.integrate": jax.scipy.integrate,
    "jax.random": jax.random,
    "jax.ops": jax.ops,
    "jax.image": jax.image,
}

# what traces nothing, acts on files or the process, or builds no arrays
SKIPPED = {
    "load",
    "save",
    "savez",
    "fromfile",
    "frombuffer",
    "show_config",
    "printoptions",
    "set_printoptions",
    "print",
}

DISTRIBUTIONS = (
    "bernoulli", "beta", "binom", "cauchy", "chi2", "dirichlet", "expon", "gamma", "gennorm", "geom", "gumbel_l",
    "gumbel_r", "laplace", "logistic", "multinomial", "multivariate_normal", "nbinom", "norm", "pareto", "poisson",
    "t", "truncnorm", "uniform", "vonmises", "wrapcauchy",
)  # fmt: skip


def _sample(name, *args, **kwargs):
    return lambda: getattr(jax.random, name)(KEY, *args, **kwargs)


IMAGE = np.ones((1, 4, 4, 1))
CALLS = {
    "gather": lambda: jnp.asarray(M)[I, I],
    "scatter": lambda: jnp.asarray(M).at[I].add(1.0),
    "scatter set": lambda: jnp.asarray(M).at[I].set(1.0),
    "scatter max": lambda: jnp.asarray(V).at[I].max(1.0),
    "scatter min": lambda: jnp.asarray(V).at[I].min(1.0),
    "scatter mul": lambda: jnp.asarray(V).at[I].multiply(2.0),
    "scatter apply": lambda: jnp.asarray(V).at[I].apply(jnp.sin),
    "dynamic slice": lambda: lax.dynamic_slice(jnp.asarray(V), (1,), (2,)),
    "dynamic update": lambda: lax.dynamic_update_slice(jnp.asarray(V), jnp.ones(2), (1,)),
    "scan": lambda: lax.scan(lambda c, x: (c + x, c * x), 0.0, V),
    "while": lambda: lax.while_loop(lambda c: c < 3.0, lambda c: c + 1.0, 0.0),
    "fori": lambda: lax.fori_loop(0, 3, lambda i, c: c * 2.0, 1.0),
    "cond": lambda: lax.cond(True, jnp.sin, jnp.cos, 1.0),
    "switch": lambda: lax.switch(1, [jnp.sin, jnp.cos, jnp.tan], 1.0),
    "map": lambda: lax.map(jnp.sin, V),
    "associative scan": lambda: lax.associative_scan(jnp.multiply, V),
    "convolution": lambda: lax.conv(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), (1, 1), "SAME"),
    "reduce window": lambda: lax.reduce_window(V, 0.0, lax.add, (2,), (1,), "VALID"),
    "reduce window max": lambda: lax.reduce_window(V, -np.inf, lax.max, (2,), (1,), "VALID"),
    "reduce window general": lambda: lax.reduce_window(V, 1.0, lambda a, b: a * b, (2,), (1,), "VALID"),
    "reduce": lambda: lax.reduce(V, 1.0, lambda a, b: a * b + a, (0,)),
    "reduce precision": lambda: lax.reduce_precision(V, 5, 10),
    "image resize": lambda: jax.image.resize(IMAGE, (1, 7, 3, 1), "cubic"),
    "image nearest": lambda: jax.image.resize(IMAGE, (1, 7, 3, 1), "nearest"),
    "image translate": lambda: jax.image.scale_and_translate(IMAGE, (1, 5, 5, 1), (1, 2), V[:2], V[:2], "linear"),
    "segment sum": lambda: jax.ops.segment_sum(V, np.array([0, 1, 0, 1]), 2),
    "segment max": lambda: jax.ops.segment_max(V, np.array([0, 1, 0, 1]), 2),
    "segment prod": lambda: jax.ops.segment_prod(V, np.array([0, 1, 0, 1]), 2),
    "map coordinates": lambda: jax.scipy.ndimage.map_coordinates(jnp.asarray(M), [V[:2], V[:2]], order=1),
    "one hot": lambda: jax.nn.one_hot(I, 4),
    "attention": lambda: jax.nn.dot_product_attention(*[np.ones((1, 2, 1, 4), np.float32)] * 3),
    "top k": lambda: lax.top_k(jnp.asarray(V), 2),
    "approx max": lambda: lax.approx_max_k(jnp.asarray(V), 2),
    "qr pivoting": lambda: lax.linalg.qr(jnp.asarray(M), pivoting=True),
    "eig vectors": lambda: jnp.linalg.eig(M),
    "lstsq": lambda: jnp.linalg.lstsq(M, V[:3]),
    "tridiagonal": lambda: lax.linalg.tridiagonal_solve(V, V + 4, V, jnp.asarray(V)[:, None]),
    "cg": lambda: jax.scipy.sparse.linalg.cg(M, V[:3]),
    "einsum": lambda: jnp.einsum("ij,jk->ik", M, M),
    "polyfit": lambda: jnp.polyfit(V, V, 2),
    "interp": lambda: jnp.interp(V, V, V),
    "quantile": lambda: jnp.quantile(V, 0.3),
    "unique": lambda: jnp.unique(I, size=3),
    "kde": lambda: jax.scipy.stats.gaussian_kde(V)(V),
    "rankdata": lambda: jax.scipy.stats.rankdata(V),
    "mode": lambda: jax.scipy.stats.mode(V),
    "solve sylvester": lambda: jax.scipy.linalg.solve_sylvester(M, M, M),
    "checkpoint": lambda: jax.checkpoint(jnp.sin)(V),
    "name": lambda: jax.ad_checkpoint.checkpoint_name(V, "v"),
    "barrier": lambda: lax.optimization_barrier(V),
    "device put": lambda: jax.device_put(V),
    "debug print": lambda: jax.debug.print("{}", V),
    "pure callback": lambda: jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((4,), V.dtype), V),
    "custom solve": lambda: lax.custom_linear_solve(lambda x: 2.0 * x, V, lambda _, b: b / 2.0, symmetric=True),
    "root": lambda: lax.custom_root(lambda x: x * x - 2, 1.0, lambda f, x: x, lambda g, y: y / g(1.0)),
    "bitcast": lambda: lax.bitcast_convert_type(V, np.int64),
    "betainc": lambda: lax.betainc(V, V, V),
    "rng bits": lambda: lax.rng_bit_generator(np.zeros(4, np.uint32), (2,)),
    "rng uniform": lambda: lax.rng_uniform(0.0, 1.0, (2,)),
    "composite": lambda: lax.composite(jnp.sin, name="sine")(V),
    "ragged dot": lambda: lax.ragged_dot(np.ones((4, 2)), np.ones((2, 2, 3)), np.array([1, 3], np.int32)),
    "gamma": _sample("gamma", V),
    "loggamma": _sample("loggamma", V),
    "dirichlet": _sample("dirichlet", V),
    "normal": _sample("normal"),
    "bits": _sample("bits"),
    "truncated normal": _sample("truncated_normal", -1.0, 1.0),
    "categorical": _sample("categorical", V),
    "permutation": _sample("permutation", 5),
    "choice": _sample("choice", 5),
    "orthogonal": _sample("orthogonal", 3),
    "multivariate normal": _sample("multivariate_normal", V[:3], M @ M.T),
    "ball": _sample("ball", 3),
    "split": lambda: jax.random.split(KEY, 3),
    "fold in": lambda: jax.random.fold_in(KEY, 3),
    "seed": lambda: jax.random.key(3),
}


def programs():
    """(name, function of no arguments) for all of the surface; those that do not accept the arguments fail when run."""
    for module_name, module in MODULES.items():
        for name in sorted(dir(module)):
            fun = getattr(module, name)
            if name.startswith("_") or name in SKIPPED or not callable(fun) or isinstance(fun, type):
                continue
            for i, args in enumerate(ATTEMPTS):
                yield f"{module_name}.{name}/{i}", lambda fun=fun, args=args: fun(*args)
    for name in DISTRIBUTIONS:
        distribution = getattr(jax.scipy.stats, name)
        for method in ("pdf", "logpdf", "cdf", "logcdf", "ppf", "sf", "logsf", "isf", "pmf", "logpmf", "entropy"):
            for i, args in enumerate([(V,), (V, V), (V, V, V), (I, V[:3]), (V[:3], V[:3], M)]):
                if hasattr(distribution, method):
                    fun = getattr(distribution, method)
                    yield f"jax.scipy.stats.{name}.{method}/{i}", lambda fun=fun, args=args: fun(*args)
    for name, fun in CALLS.items():
        yield name, fun
