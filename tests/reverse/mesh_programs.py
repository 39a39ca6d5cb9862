"""Programs that people run on a mesh with Explicit axes: what is split, and how their results are told to lie.

Each is a function of arrays that returns a number.  The mesh has the axes x and y, of 2 and 4 devices, or of one each.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from functional_dl import reverse

WHOLE, X, Y, XY = P(), P("x"), P(None, "y"), P("x", "y")


@dataclass(frozen=True)
class Argument:
    """An array of a program: of floats, or of integers below a bound."""

    shape: tuple[int, ...]
    spec: P
    below: int = 0


@dataclass(frozen=True)
class MeshProgram:
    """A program, its arguments, what JAX differentiates in its stead where it has no such function, and how close."""

    fun: Callable[..., Any]
    arguments: tuple[Argument, ...]
    for_jax: Callable[..., Any]
    tolerance: float = 1e-10

    def draw(self, mesh, dtype: Any = np.float64) -> list[jax.Array]:
        rng = np.random.default_rng(0)

        def one(argument):
            if argument.below:
                values = rng.integers(0, argument.below, argument.shape).astype(np.int32)
            else:
                values = rng.normal(size=argument.shape).astype(dtype)
            return jax.device_put(values, NamedSharding(mesh, argument.spec))

        return [one(argument) for argument in self.arguments]

    @property
    def floating(self) -> tuple[int, ...]:
        return tuple(i for i, argument in enumerate(self.arguments) if not argument.below)


PROGRAMS: dict[str, MeshProgram] = {}


def program(*arguments: Argument, for_jax: Any = None, **options: Any) -> Callable[..., Any]:
    """Decorator: enters the function into the table."""

    def enter(fun):
        PROGRAMS[fun.__name__] = MeshProgram(fun, arguments, for_jax or fun, **options)
        return fun

    return enter


def array(*shape: int, spec: P = WHOLE) -> Argument:
    return Argument(shape, spec)


def integers(*shape: int, below: int, spec: P = WHOLE) -> Argument:
    return Argument(shape, spec, below)


split = functools.partial(array, 8, 4, spec=X)


def total(*xs):
    return sum(jnp.sum(x) for x in xs)


# --- networks ---------------------------------------------------------------------------------------------------------


@program(split(), array(4, 16, spec=Y), array(16, spec=P("y")), array(16, 4, spec=P("y")))
def mlp(x, w, b, v):
    return jnp.mean(jnp.einsum("bh,hk->bk", jnp.tanh(x @ w + b), v, out_sharding=X) ** 2)


@program(split(), array(4, 16), array(16), array(16, 4))
def mlp_with_a_split_batch(x, w, b, v):
    return jnp.mean((jax.nn.relu(x @ w + b) @ v) ** 2)


@program(
    array(2, 8, 16, spec=X),
    array(16, 48, spec=Y),
    array(16, 16, spec=P("y")),
    array(16),
    array(16, 64, spec=Y),
    array(64, 16, spec=P("y")),
)
def transformer(x, qkv, out, gain, up, down):
    def norm(x):
        return gain * (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

    heads = jnp.einsum("bte,ef->btf", norm(x), qkv, out_sharding=P("x", None, "y"))
    heads = lax.reshape(heads, (2, 8, 4, 3, 4), out_sharding=P("x", None, "y"))
    q, k, v = (heads[:, :, :, i] for i in range(3))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / 2
    weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((8, 8), bool)), scores, -1e9), -1)
    mixed = lax.reshape(jnp.einsum("bhts,bshd->bthd", weights, v), (2, 8, 16), out_sharding=P("x", None, "y"))
    x = x + jnp.einsum("btf,fe->bte", mixed, out, out_sharding=X)
    hidden = jax.nn.gelu(jnp.einsum("bte,ef->btf", norm(x), up, out_sharding=P("x", None, "y")))
    return jnp.mean((x + jnp.einsum("btf,fe->bte", hidden, down, out_sharding=X)) ** 2)


@program(*[array(2, 8, 4, 4, spec=P("x", None, "y"))] * 3, tolerance=1e-5)  # its softmax is of float32
def attention(q, k, v):
    return total(jax.nn.dot_product_attention(q, k, v, is_causal=True) ** 2)


@program(array(8, 3, 8, 8, spec=X), array(4, 3, 3, 3), array(4))
def convolution_and_pooling(x, w, b):
    y = jax.nn.relu(lax.conv_general_dilated(x, w, (1, 1), "SAME") + b[None, :, None, None])
    return jnp.mean(lax.reduce_window(y, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") ** 2)


@program(array(5, 8, 4, spec=Y), array(4, 24), array(6, 24))
def lstm(xs, wx, wh):
    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ wx + h @ wh, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((8, 6), xs.dtype, out_sharding=P("y"))
    return jnp.mean(lax.scan(step, (zero, zero), xs)[1] ** 2)


@program(array(32, 8), integers(8, 5, below=32, spec=X))
def embedding(table, tokens):
    return jnp.mean(jnp.tanh(table.at[tokens].get(out_sharding=P("x", None, None))) ** 2)


@program(array(32, 8, spec=P("y")), integers(8, 5, below=32, spec=X))
def embedding_of_a_split_vocabulary(table, tokens):
    return jnp.mean(jnp.tanh(table.at[tokens].get(out_sharding=P("x", None, None))) ** 2)


@program(array(32, 8, spec=Y), integers(8, 5, below=32, spec=X))
def embedding_in_split_features(table, tokens):
    return jnp.mean(jnp.tanh(table.at[tokens].get(out_sharding=P("x", None, "y"))) ** 2)


@program(array(8, 10, spec=X), integers(8, below=10, spec=X))
def cross_entropy(logits, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))


@program(array(8, 12, spec=XY), integers(8, below=12, spec=X))
def cross_entropy_of_split_classes(logits, labels):
    classes = lax.broadcasted_iota(np.int32, (8, 12), 1, out_sharding=XY)
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * (classes == labels[:, None]), 1))


@program(array(8, 16, spec=X))
def group_norm(x):
    groups = x.reshape(8, 4, 4)
    groups = (groups - groups.mean(-1, keepdims=True)) / jnp.sqrt(groups.var(-1, keepdims=True) + 1e-5)
    return total(jnp.sin(groups.reshape(8, 16)) * x)


# --- loops, branches, calls -------------------------------------------------------------------------------------------


@program(split(), array(4, 4))
def fori(x, w):
    return total(lax.fori_loop(0, 5, lambda i, c: jnp.sin(c @ w), x))


@program(split(), array(4, 4), for_jax=fori)
def while_loop(x, w):
    return total(lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, jnp.sin(s[1] @ w)), (0, x))[1])


@program(split(), array(4, 4))
def cond(x, w):
    return total(lax.cond(jnp.sum(x) > 0, lambda: jnp.sin(x @ w), lambda: 2 * x))


@program(split(), split())
def switch(x, w):
    index = jnp.abs(jnp.sum(x)).astype(np.int32) % 3
    return total(lax.switch(index, [lambda a, b: a * b, lambda a, b: jnp.sin(a), lambda a, b: 2 * b], x, w))


@program(split(), array(4, 4))
def checkpoint(x, w):
    return total(jax.checkpoint(lambda x: jnp.tanh(jnp.sin(x @ w) @ w))(x) ** 2)


def _stepped(xs, w, start, scan):
    return total(scan(lambda c, x: (jnp.tanh(c @ w + x), c[:, 0]), start, xs)[1] ** 2)


@program(array(6, 8, 4, spec=P(None, "x")), array(4, 4), split(), for_jax=functools.partial(_stepped, scan=lax.scan))
def checkpointed_scan(xs, w, start):
    return _stepped(xs, w, start, functools.partial(reverse.checkpointed_scan, slots=3))


@jax.custom_vjp
def _by_passes(x):
    return jnp.sin(x)


_by_passes.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))


@jax.custom_jvp
def _by_tangents(x):
    return jnp.sin(x)


_by_tangents.defjvp(lambda xs, dots: (jnp.sin(xs[0]), jnp.cos(xs[0]) * dots[0]))


@program(split(spec=XY))
def custom_derivatives(x):
    return total(_by_passes(x) * _by_tangents(x))


@program(split(), array(4, 5))
def vmap(x, w):
    return total(jax.vmap(lambda row: jnp.tanh(row @ w))(x) ** 2)


@program(split(), array(4, 5))
def vmap_by_name(x, w):
    return total(jax.vmap(lambda row: jnp.sum(jnp.tanh(row @ w)[1:3]), spmd_axis_name="x")(x) ** 2)


@program(split())
def gradient_of_each_example(x):
    return total(jax.vmap(jax.grad(lambda row: jnp.prod(jnp.sin(row))))(x) ** 2)


@program(split(spec=XY), array(4, spec=P("y")))
def shard_map(x, w):
    def shard(x, w):
        return lax.psum(jnp.sum(jnp.sin(x * w), 1), "y")

    return total(jax.shard_map(shard, in_specs=(XY, P("y")), out_specs=X)(x, w) ** 2)


@program(split(), array(4))
def shard_map_of_one_axis(x, w):
    mapped = jax.shard_map(lambda x, w: jnp.sin(x * w), in_specs=(X, WHOLE), out_specs=X, axis_names={"x"})
    return total(mapped(x, w) ** 2)


@program(split(), array(4))
def scan_in_a_shard_map(x, w):
    def shard(x, w):
        return lax.scan(lambda c, a: (jnp.sin(c * w + a), c), x[0] * 0, x)[1]

    return total(jax.shard_map(shard, in_specs=(X, WHOLE), out_specs=X)(x, w) ** 2)


@program(split(), array(4, 4))
def auto_axes(x, w):
    def free(x, w):
        return jnp.where(x > 0, jnp.sort(jnp.sin(x @ w), 0), 0.0).at[1].set(3.0)[::2]

    freed: Any = jax.sharding.auto_axes(free, out_sharding=X)
    return total(freed(x, w) ** 2)


@program(split(spec=XY), array(4, 4))
def one_auto_axis(x, w):
    free: Any = jax.sharding.auto_axes(lambda x, w: jnp.sin(x @ w)[:, ::2], axes="y", out_sharding=P("x"))
    return total(free(x, w) ** 2)


@program(split())
def jitted(x):
    return total(jax.jit(lambda x: jnp.sin(x) * jnp.cos(x) + jnp.tanh(x) * jnp.exp(x) * jnp.where(x > 0, x, 1))(x))


@program(split(spec=P(None, "x")))
def mapped_rows(x):
    return total(lax.map(lambda row: jnp.sin(row) * jnp.sum(row), x))


@program(array(6, 8, spec=P(None, "x")))
def associative_scan(x):
    return total(lax.associative_scan(jnp.multiply, jnp.sin(x)) ** 2)


# --- moving entries ---------------------------------------------------------------------------------------------------


@program(split(spec=XY))
def merged_axes(x):
    return total(lax.reshape(x, (32,), out_sharding=P(("x", "y"))) ** 2)


@program(split())
def reshapes(x):
    return total(jnp.sin(x.reshape(32)) ** 2, jnp.sin(x.reshape(2, 4, 4)), jnp.sin(x[:, None].reshape(8, 1, 2, 2)))


@program(split(), array(8, 2, spec=X))
def concatenated(x, w):
    return total(jnp.sin(jnp.concatenate([x, w], 1)))


@program(split(), split())
def concatenated_along_the_split_axis(x, w):
    return total(jnp.sin(jnp.concatenate([x, w], 0)))


@program(split(), split())
def stacked(x, w):
    return total(jnp.sin(jnp.stack([x, w], 1)), jnp.stack([x, w]) ** 3)


@program(split())
def padded(x):
    return total(
        jnp.sin(jnp.pad(x, ((0, 0), (1, 2)), constant_values=2.0)), jnp.pad(x, ((0, 0), (1, 2)), "reflect") ** 2
    )


@program(split())
def sliced(x):
    return total(x[:, 1:3] ** 2, x[:, ::2] ** 3, x[:, ::-1] * x, jnp.sin(x[:, 1]), jnp.roll(x, 1, 1) * x)


@program(array(16, 4, spec=X))
def sliced_along_the_split_axis(x):
    return total(x[4:8] ** 2, x[::2] ** 3)


@program(split())
def repeated(x):
    return total(jnp.tile(x, (1, 2)) ** 2, jnp.repeat(x, 2, axis=1) ** 2)


@program(split())
def transposed(x):
    return total(jnp.sin(x.T), jnp.swapaxes(x[None], 0, 2) ** 2, jnp.tril(x) ** 2, jnp.triu(x) ** 3)


@program(split(), array(8, 1, spec=X), integers(below=3))
def cache(rows, new, place):
    return total(jnp.sin(lax.dynamic_update_slice(rows, new, (np.int32(0), place))) * rows)


@program(split(), integers(below=3))
def read_by_place(rows, place):
    block = lax.dynamic_slice(rows, (np.int32(0), place), (8, 2))
    return total(jnp.sin(block), lax.dynamic_index_in_dim(rows, place, 1, keepdims=False) ** 2)


@program(split())
def read_where_largest(x):
    return total(jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1) ** 2)


@program(array(8, 4), integers(8, below=3))
def segment_sum(x, segments):
    return total(jax.ops.segment_sum(x, segments, 3) ** 2)


@program(array(8, 4, spec=Y), integers(8, below=3))
def segment_sum_of_split_features(x, segments):
    return total(jnp.zeros((3, 4), x.dtype, out_sharding=Y).at[segments].add(x) ** 2)


@program(split(), integers(8, below=3, spec=X))
def segment_sum_of_split_rows(x, segments):
    return total(jnp.zeros((3, 4), x.dtype).at[segments].add(x, out_sharding=WHOLE) ** 2)


@program(split())
def resharded(x):
    return total(jnp.sin(jax.sharding.reshard(x, Y)), jax.sharding.reshard(x, WHOLE) ** 2)


@program(split(), array(4, 3))
def reduced_weights(x, w):
    """Each device holds the weights whole, and will hold a summand of their gradient."""
    return total(jnp.sin(x @ jax.sharding.reshard(w, P(None, None, reduced=frozenset({"x"})))))


@program(split())
def unreduced_product(x):
    """Each device holds a summand, until the sum is asked for."""
    product = jnp.einsum("nb,nc->bc", x, jnp.sin(x), out_sharding=P(unreduced=frozenset({"x"})))
    return total(jax.sharding.reshard(product, WHOLE) ** 2)


HELD, SUMMANDS = P(None, None, reduced=frozenset({"x"})), P(None, None, unreduced=frozenset({"x"}))


@program(split(), array(4, 4))
def held_weights_in_a_shard_map(x, w):
    """The weights, and a product of them alone, are held whole; of their cotangents each device holds a summand."""

    @jax.shard_map(in_specs=(X, HELD), out_specs=(X, HELD))
    def layer(x, w):
        w = jnp.sin(w) * w
        return jnp.tanh(x @ lax.pcast(w, "x", to="varying")), jnp.reshape(w, (2, 8)).T

    y, w = layer(x, jax.sharding.reshard(w, HELD))
    return total(jnp.sin(y), jax.sharding.reshard(w, WHOLE) ** 2)


@program(split(), split())
def summands_in_a_shard_map(x, y):
    @jax.shard_map(in_specs=(P(None, "x"), X), out_specs=SUMMANDS)
    def product(x, y):
        return lax.pcast(x @ y, "x", to="unreduced")

    def unchecked(x):
        return x

    x = jax.sharding.reshard(x.T, P(None, "x"))
    whole = jax.sharding.reshard(product(x, y), WHOLE)
    passed = jax.shard_map(unchecked, in_specs=X, out_specs=SUMMANDS, check_vma=False)(y)
    return total(jnp.sin(whole), jax.sharding.reshard(passed, WHOLE) ** 2)


@program(array())
def auto_axes_in_a_scan(w):
    """The state comes from no mesh."""
    model = jax.sharding.auto_axes(lambda x, w: w * jnp.sin(x), out_sharding=P())
    return lax.scan(lambda c, _: (model(c, w), None), np.float32(1).astype(w.dtype), None, length=3)[0]


@program(split())
def constrained(x):
    return total(jnp.sin(lax.with_sharding_constraint(x, X)))


# --- arithmetic -------------------------------------------------------------------------------------------------------


@program(split(spec=XY), array(4, 8, spec=P("y", "x")))
def sum_over_split_axes(x, w):
    return total(jnp.einsum("ij,jk->ik", x, w, out_sharding=WHOLE) ** 2)


@program(split(), split())
def gram(x, w):
    return total(jnp.sin(jnp.einsum("ni,nj->ij", x, w, out_sharding=WHOLE)))


@program(split(spec=XY))
def reduced(x):
    return total(jnp.sin(x.sum(0)) * x.max(0) * x.min(0), jax.nn.logsumexp(x, 0), x.std(0))


@program(split())
def norms(x):
    return total(jnp.linalg.norm(x, axis=1), jnp.var(x, 1), jnp.abs(x).max())


@program(split(spec=XY), array(4), array(8, 1, spec=X), array())
def broadcast(x, row, column, number):
    return total(jnp.sin(x + row), x * jnp.exp(row[None]), x * column / (2 + jnp.cos(column)), jnp.sin(x * number))


@program(split(spec=XY))
def selected(x):
    return total(jnp.where(x > 0, x, 0.0) * jnp.where(x > 1, 2.0, x), jnp.where(True, x, 1.0))


@program(split(spec=XY))
def kinked(x):
    smooth = jax.nn.elu(x) + jax.nn.softplus(x) + jax.nn.silu(x) + jax.nn.leaky_relu(x)
    return total(jnp.clip(x, -1, 1) ** 2, jnp.maximum(x, 0.0), jnp.minimum(x, x**2), smooth, jnp.abs(x))


@program(split(spec=XY))
def special_functions(x):
    size = jnp.abs(x) + 1
    gammas = jax.scipy.special.gammaln(size) + lax.digamma(size) + lax.igamma(size, size + 0.5)
    return total(gammas, lax.erf(x), jnp.power(size, x), jnp.arctan2(x, 2.0), lax.bessel_i1e(x), jnp.logaddexp(x, 1.0))


@program(split())
def with_constants(x):
    return total(x * jnp.arange(4.0), x + np.ones((8, 4)), x * jnp.ones((8, 4)), x.astype(np.float32) ** 2)


@program(split(), array(4, 4))
def unused(x, w):
    return total(x)


@program(array(8, 6, spec=X))
def cumulative(x):
    sums = jnp.cumsum(x, 1) ** 2 + lax.cumlogsumexp(x, 1) * x
    return total(sums, jnp.cumprod(x, 1), lax.cummax(x, 1) * x, lax.cumsum(x, 1, reverse=True) ** 2)


def _ordered_by_top_k(x):
    falling = lax.top_k(x, 6)[0]
    return total(falling[:, ::-1] ** 2 * x, falling[:, :2] ** 2)


@program(array(8, 6, spec=X), for_jax=_ordered_by_top_k)  # JAX differentiates no sort of what is split
def ordered(x):
    return total(jnp.sort(x, 1) ** 2 * x, lax.top_k(x, 2)[0] ** 2)


@program(array(8, 6, spec=X))
def fourier(x):
    return total(jnp.abs(jnp.fft.rfft(x)) ** 2, jnp.abs(jnp.fft.ifft(jnp.fft.fft(x + 0j) * 2)) ** 3)


@program(array(8, 3, 3, spec=X), array(8, 3, 1, spec=X))
def linear_algebra(x, b):
    positive = x @ x.mT + 3 * jnp.eye(3)
    spectra = jnp.linalg.svd(x, compute_uv=False) ** 3 + jnp.linalg.eigh(positive)[0] ** 2
    return total(jnp.linalg.solve(positive, b) ** 3, spectra)


@program(array(8, 3, spec=X), array(8, 3, spec=X))
def vectors(x, y):
    return total(jnp.cross(x, y) ** 2, jnp.vecdot(x, y) ** 2, jax.vmap(jnp.outer)(x, y) ** 2)
