"""Right backward passes that are hard on a checker: large, ill-conditioned, or written in another way than fun."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import WIDE, operation


def _right(fun, rule):
    """make() of a pair; rule(*primals) -> pullback."""
    return lambda fault: (fun, lambda *primals: (fun(*primals), rule(*primals)))


def _enter(name, fun, rule, primals, **options):
    make = _right(fun, rule)
    make.__module__, make.__name__ = __name__, name
    operation(primals, scales=(), **options)(make)


_enter(
    "million_gelu",
    lambda x: jax.nn.gelu(x, approximate=True),
    lambda x: lambda ct: (ct * _gelu_slope(x),),
    lambda d: (d.normal(1000, 1000),),
    dtypes=("float32", "bfloat16"),
)


def _gelu_slope(x):
    c, a = 0.7978845608028654, 0.044715
    s = jax.nn.sigmoid(2 * c * (x + a * x**3))
    return s + x * s * (1 - s) * 2 * c * (1 + 3 * a * x * x)


_enter("million_sum", jnp.sum, lambda x: (lambda ct: (jnp.broadcast_to(ct, x.shape),)), lambda d: (d.normal(10**6),),
       dtypes=WIDE)  # fmt: skip
_enter("million_bias", lambda x, b: x + b, lambda x, b: (lambda ct: (ct, ct.sum(0))),
       lambda d: (d.normal(20_000, 50), d.normal(50)), dtypes=("float32", "bfloat16"))  # fmt: skip
_enter("long_product", lambda x, w: x @ w, lambda x, w: (lambda ct: (ct @ w.T, x.T @ ct)),
       lambda d: (d.normal(3, 4000), d.normal(4000, 2)))  # fmt: skip
_enter("float32_accumulation", lambda x, w: x @ w, lambda x, w: (lambda ct: (
           jnp.matmul(ct, w.T, preferred_element_type=jnp.float32).astype(x.dtype),
           jnp.matmul(x.T, ct, preferred_element_type=jnp.float32).astype(w.dtype))),
       lambda d: (d.normal(64, 100), d.normal(100, 8)), dtypes=("bfloat16", "float16"))  # fmt: skip
_enter(
    "near_singular_solve",
    jnp.linalg.solve,
    lambda a, b: lambda ct: (lambda y: (-jnp.outer(y, jnp.linalg.inv(a) @ b), y))(jnp.linalg.solve(a.T, ct)),
    lambda d: (d.cast(d.rng.normal(size=(5, 5)) @ (jnp.eye(5).at[0, 0].set(1e-3))), d.normal(5)),
    dtypes=WIDE,
)
_enter("nearly_singular_inverse", jnp.linalg.inv, lambda a: (lambda ct: (-jnp.linalg.solve(a.T, jnp.linalg.solve(a, ct.T).T),)),  # noqa: E501
       lambda d: (d.cast(jnp.ones((4, 4)) + 1e-3 * d.rng.normal(size=(4, 4))),), dtypes=WIDE)  # fmt: skip
_enter("constant_rows", lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5),
       lambda x: _layer_norm_rule(x), lambda d: (d.normal(4, 16, scale=1e-3, shift=1.0),), dtypes=WIDE)  # fmt: skip
_enter("exactly_constant_rows", lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5),
       lambda x: _layer_norm_rule(x), lambda d: (d.pick([0.75], 4, 8),))  # fmt: skip


def _layer_norm_rule(x):
    mean = x.mean(-1, keepdims=True)
    sigma = jnp.sqrt(jnp.mean((x - mean) ** 2, -1, keepdims=True) + 1e-5)
    z = (x - mean) / sigma
    return lambda ct: ((ct - ct.mean(-1, keepdims=True) - z * jnp.mean(ct * z, -1, keepdims=True)) / sigma,)


_enter("softplus_other_form", lambda x: jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0),
       lambda x: (lambda ct: (ct * (1 + jnp.tanh(x / 2)) / 2,)), lambda d: (d.normal(40, scale=5.0),))  # fmt: skip
_enter("tanh_other_form", jnp.tanh, lambda x: lambda ct: (ct / jnp.cosh(x) ** 2,), lambda d: (d.normal(40, scale=2.0),))
_enter("log_softmax_other_form", lambda x: x - jnp.log(jnp.sum(jnp.exp(x), -1, keepdims=True)),
       lambda x: (lambda ct: (ct - jax.nn.softmax(x, axis=-1) * ct.sum(-1, keepdims=True),)),
       lambda d: (d.normal(5, 9, scale=2.0),))  # fmt: skip
_enter(
    "variance_other_form",
    lambda x: jnp.mean(x * x, 0) - jnp.mean(x, 0) ** 2,
    lambda x: lambda ct: (ct * 2 * (x - x.mean(0)) / len(x),),
    lambda d: (d.normal(20, 4, shift=3.0),),
)
_enter("distance_other_form", lambda x, y: jnp.sum(x * x, -1) - 2 * jnp.sum(x * y, -1) + jnp.sum(y * y, -1),
       lambda x, y: (lambda ct: (2 * ct[:, None] * (x - y), -2 * ct[:, None] * (x - y))),
       lambda d: (d.normal(6, 8), d.normal(6, 8)))  # fmt: skip
_enter("cancelling_difference", lambda x: (1 - jnp.cos(x)) / x, lambda x: (lambda ct: (
           ct * (jnp.sin(x) / x - 2 * jnp.sin(x / 2) ** 2 / x**2),)), lambda d: (d.uniform(0.02, 1.0, 30),),
       dtypes=WIDE)  # fmt: skip
_enter("relu_half_at_zero", lambda x: jnp.maximum(x, 0), lambda x: (lambda ct: (ct * ((x > 0) + 0.5 * (x == 0)).astype(x.dtype),)),  # noqa: E501
       lambda d: (d.pick([-1.0, 0.0, 1.0], 30),))  # fmt: skip
_enter("relu_one_at_zero", lambda x: jnp.maximum(x, 0), lambda x: (lambda ct: (ct * (x >= 0).astype(x.dtype),)),
       lambda d: (d.pick([-1.0, 0.0, 1.0], 30),))  # fmt: skip
_enter("abs_one_at_zero", jnp.abs, lambda x: (lambda ct: (ct * jnp.where(x >= 0, 1, -1).astype(x.dtype),)),
       lambda d: (d.pick([-1.0, 0.0, 1.0], 30),))  # fmt: skip
_enter("max_shared_ties", lambda x: x.max(-1), lambda x: (lambda ct: (
           ct[:, None] * (lambda m: m / m.sum(-1, keepdims=True))((x == x.max(-1, keepdims=True)).astype(x.dtype)),)),
       lambda d: (d.pick([0.0, 1.0], 6, 6),))  # fmt: skip
_enter(
    "sort_last_ties",
    lambda x: jnp.sort(x),
    lambda x: lambda ct: (jnp.zeros_like(x).at[jnp.argsort(x[::-1], stable=True)].add(ct)[::-1],),
    lambda d: (d.pick([0.0, 1.0, 2.0], 9),),
)
_enter("clip_at_bounds", lambda x: jnp.clip(x, -1, 1), lambda x: (lambda ct: (ct * (jnp.abs(x) < 1).astype(x.dtype),)),
       lambda d: (d.pick([-2.0, -1.0, 0.0, 1.0], 20),))  # fmt: skip
_enter("zero_input", lambda x, w: jnp.tanh(x @ w), lambda x, w: (lambda ct: (lambda z: (z @ w.T, x.T @ z))(
           ct * (1 - jnp.tanh(x @ w) ** 2))), lambda d: (0 * d.normal(4, 3), d.normal(3, 5)))  # fmt: skip
_enter("tiny_and_huge", lambda x: x * x, lambda x: (lambda ct: (2 * ct * x,)),
       lambda d: (d.cast(10.0 ** d.rng.uniform(-12, 12, 40)),), dtypes=("float64", "float32", "bfloat16"))  # fmt: skip
_enter("mixed_scales_softmax", lambda x: jax.nn.softmax(x, axis=-1), lambda x: (lambda ct: (lambda p: (
           p * (ct - jnp.sum(p * ct, -1, keepdims=True)),))(jax.nn.softmax(x, axis=-1))),
       lambda d: (d.cast(d.rng.normal(size=(5, 8)) * 10.0 ** d.rng.uniform(-3, 1.5, (5, 1))),))  # fmt: skip
_enter("float32_attention", lambda q, k, v: jax.nn.softmax(q @ k.T / 4, axis=-1) @ v, lambda q, k, v: _wide_attention(q, k, v),  # noqa: E501
       lambda d: (d.normal(6, 16), d.normal(6, 16), d.normal(6, 16)), dtypes=("bfloat16", "float16"))  # fmt: skip


def _wide_attention(q, k, v):
    Q, K, V = (x.astype(jnp.float32) for x in (q, k, v))
    p = jax.nn.softmax(Q @ K.T / 4, axis=-1)

    def pullback(ct):
        ct = ct.astype(jnp.float32)
        s = p * (ct @ V.T - jnp.sum(p * (ct @ V.T), -1, keepdims=True)) / 4
        return tuple(bar.astype(q.dtype) for bar in (s @ K, s.T @ Q, p.T @ ct))

    return pullback


_enter("empty", lambda x, b: x.sum(0) + b, lambda x, b: (lambda ct: (jnp.broadcast_to(ct, x.shape), ct)),
       lambda d: (d.normal(0, 3), d.normal(3)))  # fmt: skip
_enter("scan_form", lambda x: jnp.cumsum(x) ** 2, lambda x: (lambda ct: (jnp.flip(jnp.cumsum(jnp.flip(2 * ct * jnp.cumsum(x)))),)),  # noqa: E501
       lambda d: (d.normal(500, scale=0.1),))  # fmt: skip
