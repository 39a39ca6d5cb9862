"""Right backward passes as people write them, at points and in dtypes that are hard on a checker.

`passes(draw)` -> name -> (fun, fun_vjp, primals); `draw(*shape, scale, shift)` makes a random array of the dtype under
test.  "of JAX" among the passes is JAX's own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

INDICES = np.array([2, 0, 1, 1], np.int64)
CAUSAL = np.tril(np.ones((4, 4), bool))
stop = lax.stop_gradient


def of_jax(fun):
    """JAX's own pass of fun."""
    return lambda *primals: jax.vjp(fun, *primals)


def by_hand(fun, pullback):
    """A pass: `pullback(*primals, ct)` -> the cotangents."""
    return lambda *primals: (fun(*primals), lambda ct: pullback(*primals, ct))


def straight_through(x):
    return x + stop(jnp.round(x) - x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def rounded(x, steps):
    return jnp.round(x * steps) / steps


rounded.defvjp(lambda x, steps: (rounded(x, steps), None), lambda steps, _, ct: (ct,))


@jax.custom_vjp
def spike(v):
    return (v > 0).astype(v.dtype)


spike.defvjp(lambda v: (spike(v), v), lambda v, ct: (ct / (1 + jnp.abs(v)) ** 2,))


@jax.custom_vjp
def safe_norm(x):
    return jnp.sqrt(jnp.sum(x * x, -1))


safe_norm.defvjp(
    lambda x: ((n := safe_norm(x)), (x, n)),
    lambda kept, ct: ((ct / jnp.where(kept[1] == 0, 1, kept[1]))[..., None] * kept[0],),
)


def dense(params, x):
    y = x @ params["w"]
    return y if params["b"] is None else y + params["b"]


def dense_back(params, x, ct):
    b_bar = None if params["b"] is None else ct.sum(0)
    return {"w": x.T @ ct, "b": b_bar}, ct @ params["w"].T


def layer_norm(x, gain):
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain


def layer_norm_back(x, gain, ct):
    centred = x - x.mean(-1, keepdims=True)
    r = lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    n, d = centred * r, ct * gain
    return (d - d.mean(-1, keepdims=True) - n * (d * n).mean(-1, keepdims=True)) * r, (ct * n).sum(0)


def squared_softmax(x, w):
    return jnp.sum(jax.nn.softmax(x @ w) ** 2)


def network(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 2)


def network_back(w, x, ct):
    t = jnp.tanh(x @ w)
    d = ct * 2 * t * (1 - t * t) / t.size
    return x.T @ d, d @ w.T


def masked_softmax(s):
    return jax.nn.softmax(jnp.where(CAUSAL, s, -jnp.inf))


def softmax_back(p, ct):
    return p * (ct - jnp.sum(ct * p, -1, keepdims=True))


def recurrence(h, w, xs):
    return lax.scan(lambda h, x: ((n := jnp.tanh(h @ w + x)), n), h, xs)


def halved_four_times(x):
    return lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] * 0.5 + 1), (0, x))[1]


def accumulated(x, w):
    return jnp.dot(x, w, preferred_element_type=jnp.float32).astype(x.dtype)


def accumulated_back(x, w, ct):
    wide = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
    return wide(ct, w.T).astype(x.dtype), wide(x.T, ct).astype(x.dtype)


def cosine(x, y):
    return jnp.sum(x * y) / (jnp.sqrt(jnp.sum(x * x)) * jnp.sqrt(jnp.sum(y * y)))


def checkpointed(x, w):
    return jnp.tanh(jax.checkpoint(lambda h: jnp.tanh(h @ w))(x) @ w)


def either(x):
    return lax.cond(jnp.sum(x) > 0, lambda x: x * 2, lambda x: x * x, x)


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID")


def row_norms(x):
    return jnp.linalg.norm(x, axis=1)


# what fun declares: stopped gradients, straight-through rules
DECLARED = {
    "straight through": (straight_through, by_hand(straight_through, lambda x, ct: (ct,))),
    "straight through, of JAX": (straight_through, of_jax(straight_through)),
    "rounding with a rule": (
        lambda x: rounded(x, 4.0) * 2,
        by_hand(lambda x: rounded(x, 4.0) * 2, lambda x, ct: (2 * ct,)),
    ),
    "spikes": (lambda x: spike(x[:3] * x[3:]), of_jax(lambda x: spike(x[:3] * x[3:]))),
    "stopped": (lambda x: stop(x[:3]) * x[3:], of_jax(lambda x: stop(x[:3]) * x[3:])),
}


def passes(draw):
    like = draw(1)
    array = lambda values: jnp.asarray(values, like.dtype)
    ones, zeros = (lambda *shape: jnp.ones(shape, like.dtype)), (lambda *shape: jnp.zeros(shape, like.dtype))
    v = draw(9)
    found = {name: (*pair, (draw(6),)) for name, pair in DECLARED.items()}
    dense_pass = (dense, by_hand(dense, dense_back))
    found |= {
        "no bias": (*dense_pass, ({"w": draw(4, 3), "b": None}, draw(5, 4))),
        "a dictionary": (*dense_pass, ({"w": draw(4, 3), "b": draw(3)}, draw(5, 4))),
        "left out": (
            lambda x, y: stop(x) * y,
            by_hand(lambda x, y: x * y, lambda x, y, ct: (None, ct * x)),
            (draw(4), draw(4)),
        ),
        "nothing summed": (
            lambda x: jnp.sum(x, 0),
            by_hand(lambda x: jnp.sum(x, 0), lambda x, ct: (0 * x,)),
            (zeros(0, 3),),
        ),
        "no output": (lambda x: x[:0], by_hand(lambda x: x[:0], lambda x, ct: (0 * x,)), (draw(3),)),
        "rows by int64": (
            lambda x: x[INDICES],
            by_hand(lambda x: x[INDICES], lambda x, ct: (jnp.zeros_like(x).at[INDICES].add(ct),)),
            (draw(3, 2),),
        ),
        "rows by an argument": (
            lambda x, n: x[n],
            by_hand(lambda x, n: x[n], lambda x, n, ct: (jnp.zeros_like(x).at[n].add(ct), None)),
            (draw(3, 2), INDICES),
        ),
        "scan": (recurrence, of_jax(recurrence), (draw(4), draw(4, 4), draw(6, 4))),
        "while": (halved_four_times, by_hand(halved_four_times, lambda x, ct: (ct * 0.5**4,)), (draw(5),)),
        "cond": (either, of_jax(either), (draw(5),)),
        "cond at 0": (either, of_jax(either), (zeros(5),)),
        "checkpoint": (checkpointed, of_jax(checkpointed), (draw(3, 4), draw(4, 4))),
        "accumulated in float32": (accumulated, by_hand(accumulated, accumulated_back), (draw(8, 40), draw(40, 6))),
        "accumulated ones": (accumulated, by_hand(accumulated, accumulated_back), (ones(8, 40), ones(40, 6))),
        "log at 0": (jnp.log, by_hand(jnp.log, lambda x, ct: (ct / x,)), (array([0, 1, 2]),)),
        "root at 0": (jnp.sqrt, of_jax(jnp.sqrt), (array([0, 4]),)),
        "square of nan": (
            lambda x: x * x,
            by_hand(lambda x: x * x, lambda x, ct: (2 * x * ct,)),
            (array([np.nan, 1, 2]),),
        ),
        "exp of infinity": (
            lambda x: jnp.exp(-x),
            by_hand(lambda x: jnp.exp(-x), lambda x, ct: (-ct * jnp.exp(-x),)),
            (array([np.inf, 1, -3]),),
        ),
        "masked softmax": (
            masked_softmax,
            by_hand(masked_softmax, lambda s, ct: (softmax_back(masked_softmax(s), ct),)),
            (draw(4, 4),),
        ),
        "norms, a row of zeros": (row_norms, of_jax(row_norms), (array([[3, 4], [0, 0]]),)),
        "safe norms, a row of zeros": (safe_norm, of_jax(safe_norm), (array([[3, 4], [0, 0], [1, 1]]),)),
        "softmax of ones": (squared_softmax, of_jax(squared_softmax), (draw(3, 4), ones(4, 5))),
        "softmax of zeros": (squared_softmax, of_jax(squared_softmax), (zeros(3, 4), draw(4, 5))),
        "cosine of the same": (cosine, of_jax(cosine), (v, v)),
        "cosine of opposites": (cosine, of_jax(cosine), (v, -v)),
        "ties of a maximum": (lambda x: jnp.max(x, -1), of_jax(lambda x: jnp.max(x, -1)), (ones(3, 4),)),
        "ties of a sort": (jnp.sort, of_jax(jnp.sort), (array([1, 1, 2, 0, 0]),)),
        "ties of a pool": (pooled, of_jax(pooled), (zeros(6),)),
        "relu at 0": (jax.nn.relu, by_hand(jax.nn.relu, lambda x, ct: (ct * (x >= 0),)), (array([0, 1, -1, 0]),)),
        "absolute value at 0": (jnp.abs, by_hand(jnp.abs, lambda x, ct: (ct * jnp.sign(x),)), (zeros(4),)),
        "bounds of a clip": (
            lambda x: jnp.clip(x, -1, 1),
            of_jax(lambda x: jnp.clip(x, -1, 1)),
            (array([-1, 0, 1, 2]),),
        ),
        "variance of equals": (jnp.var, of_jax(jnp.var), (7 * ones(32),)),
        "a long sum": (
            lambda x: jnp.sum(x * x),
            by_hand(lambda x: jnp.sum(x * x), lambda x, ct: (2 * x * ct,)),
            (draw(3000),),
        ),
        "columns of other sizes": (
            jnp.matmul,
            by_hand(jnp.matmul, lambda x, w, ct: (ct @ w.T, x.T @ ct)),
            (draw(5, 3) * array([1e-4, 1, 1e4]), draw(3, 2)),
        ),
        "scalar": (lambda x: x**3, by_hand(lambda x: x**3, lambda x, ct: (3 * x * x * ct,)), (array(1.4064777),)),
        "expm1 near 0": (
            jnp.expm1,
            by_hand(jnp.expm1, lambda x, ct: (ct * (jnp.expm1(x) + 1),)),
            (draw(7, scale=1e-3),),
        ),
    }
    for name, x in {
        "plain": draw(4, 16),
        "shifted": draw(4, 16, shift=20.0),
        "constant": 3 * ones(4, 16),
        "zero": zeros(4, 16),
        "tiny": draw(4, 16, scale=1e-3),
        "large": draw(4, 16, scale=1e3),
        "one-hot": jnp.eye(4, 16, dtype=like.dtype),
    }.items():
        found[f"layer norm, {name}"] = (layer_norm, by_hand(layer_norm, layer_norm_back), (x, draw(16)))
    for name, (w, x) in {
        "plain": (draw(4, 4), draw(6, 4)),
        "ones": (ones(4, 4), ones(6, 4)),
        "zero": (zeros(4, 4), draw(6, 4)),
        "saturated": (draw(4, 4, scale=30), draw(6, 4)),
    }.items():
        jax.jit(jax.value_and_grad(network))(w, x)
        found[f"after a jitted call, {name}"] = (network, by_hand(network, network_back), (w, x))
    return found
