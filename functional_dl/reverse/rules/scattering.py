"""Writing into an array by position: scatter (overwrite, apply), and scatter with +, -, *, min, max.

Throughout y = scatter(x, p, u): update u_i goes to the place p(i) of x, moved inside or dropped where p(i) lies
outside, as the mode says.  The sums over "the i with p(i) = j" are scatters that add, and what is read "at p(i)" is a
gather, both with the dimension numbers and the mode of the scatter that is differentiated.
"""

import functools
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import scatter_add_p, scatter_max_p, scatter_min_p, scatter_mul_p, scatter_p

from functional_dl.aliases import Array
from functional_dl.jaxprs import open_jaxpr, primitive_of
from functional_dl.reverse import sweep
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import full_like, number, spread_like, zeros_like
from functional_dl.reverse.sweep import call_rule

ALL = FLOATS + COMPLEX


class Places:
    """The places p(i) of one scatter: reads and writes there."""

    options: dict[str, Any]
    sizes: tuple[Any | int, ...]

    def __init__(
        self,
        indices: Any,
        update: Any,
        rank: Any,
        dimension_numbers: Any,
        indices_are_sorted: Any,
        unique_indices: Any,
        mode: Any,
    ) -> None:
        self.indices = indices
        self.numbers = dimension_numbers
        self.options = {"indices_are_sorted": indices_are_sorted, "unique_indices": unique_indices, "mode": mode}
        windows = iter(dimension_numbers.update_window_dims)
        flat = {*dimension_numbers.inserted_window_dims, *dimension_numbers.operand_batching_dims}
        self.sizes = tuple(1 if i in flat else update.shape[next(windows)] for i in range(rank))
        self.unique = unique_indices

    def read(self, x: Array, fill: float = 0) -> Any:
        """x_{p(i)} for every i, `fill` where update i was dropped."""
        numbers = lax.GatherDimensionNumbers(
            offset_dims=self.numbers.update_window_dims,
            collapsed_slice_dims=self.numbers.inserted_window_dims,
            start_index_map=self.numbers.scatter_dims_to_operand_dims,
            operand_batching_dims=self.numbers.operand_batching_dims,
            start_indices_batching_dims=self.numbers.scatter_indices_batching_dims,
        )
        return lax.gather(x, self.indices, numbers, self.sizes, fill_value=fill, **self.options)

    def write(self, scatter: Any, x: Array, update: Any) -> Any:
        """scatter(x, p, update), where scatter is one of lax's."""
        return scatter(x, self.indices, update, self.numbers, **self.options)

    def names(self, shape: Any) -> Any:
        """1, 2, ... for the windows of an update of this shape, in the smallest integers that hold them."""
        windows = self.numbers.update_window_dims
        lead = tuple(1 if i in windows else n for i, n in enumerate(shape))
        count = prod(lead)
        kind = next(k for k in ("uint8", "uint16", "uint32", "uint64") if count <= np.iinfo(k).max)
        ids = lax.add(lax.iota(kind, count), np.dtype(kind).type(1)) if count else lax.iota(kind, 0)
        return lax.broadcast_in_dim(lax.reshape(ids, lead), shape, range(len(shape)))


def _places(indices, update, x, dimension_numbers, indices_are_sorted, unique_indices, mode, **_):
    return Places(indices, update, x.ndim, dimension_numbers, indices_are_sorted, unique_indices, mode)


_SCALARS = lax.ScatterDimensionNumbers((), (0,), (0,))
_ROWS = lax.ScatterDimensionNumbers((1,), (0,), (0,))
_WINDOWS = lax.ScatterDimensionNumbers((0, 2), (), (1, 0))
_BATCHED = lax.ScatterDimensionNumbers((2,), (1,), (1,), (0,), (0,))


def _probe(scatter, indices, numbers, shapes, dtypes=FLOATS, **options):
    return Probe(
        lambda x, u: scatter(x, jnp.array(indices), u, numbers, **options), shapes=shapes, dtypes=dtypes, distinct=0.01
    )


def _probes(scatter, repeated=True, dtypes=FLOATS, clip="clip"):
    """Every kind of place: one, rows, windows, batched; repeated, outside; dropped, moved inside."""
    again = int(not repeated)
    return (
        _probe(scatter, [2], _SCALARS, ((4,), ()), dtypes, unique_indices=True, indices_are_sorted=True),
        _probe(scatter, [[2], [0], [2 + again]], _ROWS, ((4, 3), (3, 3)), dtypes, unique_indices=not repeated),
        _probe(scatter, [[2], [9], [0]], _ROWS, ((4, 3), (3, 3)), dtypes, mode="drop", unique_indices=not repeated),
        _probe(scatter, [[1], [9], [0]], _ROWS, ((4, 3), (3, 3)), dtypes, mode=clip, unique_indices=not repeated),
        _probe(
            scatter,
            [[2, 1 - again], [9, 2], [0, 1 + again]],
            _WINDOWS,
            ((4, 5), (2, 3, 2)),
            dtypes,
            mode="drop",
            unique_indices=not repeated,
        ),
        _probe(
            scatter,
            [[[1], [1 + again]], [[3], [9]]],
            _BATCHED,
            ((2, 4, 2), (2, 2, 2)),
            dtypes,
            mode="drop",
            unique_indices=not repeated,
        ),
        _probe(scatter, np.zeros((0, 1), int), _ROWS, ((4, 3), (0, 3)), dtypes, unique_indices=not repeated),
    )


@vjp_rule(
    scatter_add_p,
    *_probes(lax.scatter_add, dtypes=ALL),
    Probe(lambda x, u: x.at[jnp.array([1, 1, -1, 9])].add(u), shapes=((4,), (4,)), dtypes=ALL),
    reads="indices",
    latex=(r"<0>; \quad <y>[<1>] \mathrel{+}= <2>", "<c>", "0", "<c>[<1>]"),
)
def scatter_add_vjp(ct, out, x, indices, update, **params):
    """y_j = x_j + sum of u_i over the i with p(i) = j  =>  x_bar = y_bar,  u_i_bar = y_bar at p(i) (0 if dropped)."""
    return ct, None, lambda: _places(indices, update, x, **params).read(ct)


if hasattr(lax, "scatter_sub"):
    _one = (np.zeros(2, np.float32), np.zeros(1, np.int32), np.zeros((), np.float32))
    scatter_sub_p = primitive_of(lambda x, i, u: lax.scatter_sub(x, i, u, _SCALARS), *_one)

    @vjp_rule(
        scatter_sub_p,
        *_probes(lax.scatter_sub, dtypes=ALL),
        Probe(lambda x, u: x.at[jnp.array([1, 1, -1, 9])].subtract(u), shapes=((4,), (4,)), dtypes=ALL),
        reads="indices",
        latex=(r"<0>; \quad <y>[<1>] \mathrel{-}= <2>", "<c>", "0", "-<c>[<1>]"),
    )
    def scatter_sub_vjp(ct, out, x, indices, update, **params):
        """y_j = x_j - sum of u_i over the i with p(i) = j  =>  x_bar = y_bar,  u_i_bar = -y_bar at p(i)."""
        return ct, None, lambda: lax.neg(_places(indices, update, x, **params).read(ct))


def bent(x: Any) -> Any:
    """Neither odd nor even, and not its own derivative."""
    return lax.sin(lax.add(x, number(0.5, x)))


def bent_at(x: Array, rows: Any, **options: Any) -> Any:
    """x with `bent` applied to some of its rows, as often as they are named."""
    return x.at[jnp.array(rows)].apply(bent, **options)


@call_rule(
    scatter_p,
    *_probes(lax.scatter, dtypes=ALL),
    *_probes(lax.scatter, repeated=False, dtypes=ALL),
    Probe(lambda x, u: x.at[jnp.array([1, 1, -1, 9])].set(u), shapes=((4,), (4,)), dtypes=ALL),
    Probe(lambda x, u: x.at[::2, 1].set(u), shapes=((4, 3), (2,)), dtypes=ALL),
    Probe(functools.partial(bent_at, rows=(1, 1, -1, 9, 1)), shapes=((4,),), order=1, forward=False),
    Probe(functools.partial(bent_at, rows=(1, 3), unique_indices=True), shapes=((4, 2),), forward=False),
    latex=(r"<0>; \quad <y>[<1>] = <2>", r"<c> \text{ with } 0 \text{ at } <1>", "0", "<c>[<1>]"),
)
def scatter_forward(tape: Any, values: Any, slots: Any, *, update_jaxpr: Any, update_consts: Any, **params: Any) -> Any:
    """y_j = u_i for the i with p(i) = j, x_j where there is none
    =>  x_bar = y_bar, with 0 at the places written,  u_i_bar = y_bar at p(i) (0 if dropped).

    Where several updates go to one place, one wins, and the others' cotangents are 0.  Which one, the same scatter of
    the numbers 1, 2, ... instead of u tells.  With f applied instead, y_j = f(x_j): x_bar = f'(x) y_bar there.
    """
    x, indices, update = values
    out = scatter_p.bind(*values, update_jaxpr=update_jaxpr, update_consts=update_consts, **params)
    x_type, update_type = jax.typeof(x), jax.typeof(update)

    def overwritten(indices, cts):
        [ct] = cts
        places = _places(indices, update_type, x_type, **params)

        def update_bar():
            bar = places.read(ct)
            if places.unique:
                return bar
            ids = places.names(update_type.shape)
            last = places.read(places.write(lax.scatter, full_like(x_type, 0, ids.dtype), ids))
            return lax.select(lax.eq(last, ids), bar, zeros_like(bar))

        return lambda: places.write(lax.scatter, ct, zeros_like(update_type)), None, update_bar

    def applied(residuals, cts):
        x, indices, consts = residuals
        places = _places(indices, update_type, x_type, **params)
        return _applied_bar(cts[0], x, places, update_type, update_jaxpr, consts), None, None

    slot = tape.new_slots([out])
    if update_jaxpr is None:
        return tape.call(scatter_p, overwritten, indices, slots, [out], slot, explicit=False)
    return tape.call(scatter_p, applied, (x, indices, list(update_consts)), slots, [out], slot, explicit=False)


def _applied_bar(ct, x, places, update, jaxpr, consts):
    """x_bar of y_j = f(f(...f(x_j))), f as often as j occurs among the places."""
    consts = [*open_jaxpr(jaxpr)[1], *consts]

    def slope(value):
        def one(z):
            outs, pull_back = sweep.forward_jaxpr(jaxpr, [z, number(0, z)], [True, False], consts=consts)
            bar = pull_back([number(1, outs[0])])[0]
            return outs[0], zeros_like(z) if bar is None else bar

        for _ in range(value.ndim):
            one = jax.vmap(one)
        return one(value)

    counts = places.write(lax.scatter_add, full_like(x, 0, "int32"), full_like(update, 1, "int32"))
    if places.unique or update.size <= prod(places.sizes):
        return lax.select(lax.gt(counts, number(0, counts)), lax.mul(ct, slope(x)[1]), ct)

    def step(state):
        k, value, bar = state
        moved, factor = slope(value)
        going = lax.gt(counts, spread_like(k, counts))
        return k + number(1, k), lax.select(going, moved, value), lax.select(going, lax.mul(bar, factor), bar)

    most = lax.reduce_max(counts, tuple(range(counts.ndim)))
    return lax.while_loop(lambda state: lax.lt(state[0], most), step, (jnp.int32(0), x, ct))[2]


def scaled_at(x: Array, factors: Any, rows: Any) -> Any:
    """x with its rows multiplied by the factors, as often as they are named."""
    return x.at[jnp.array(rows)].multiply(factors)


@vjp_rule(
    scatter_mul_p,
    *_probes(lax.scatter_mul, repeated=False, dtypes=ALL),
    Probe(lambda x: x.at[jnp.array([1, 1, -1, 9])].multiply(jnp.array([2, 3, 4, 5], x.dtype)), shapes=((4,),)),
    Probe(functools.partial(scaled_at, rows=(1, 2, 1, -1, 9, 1)), shapes=((4,), (6,)), forward=False),
    Probe(functools.partial(scaled_at, rows=(2, 0, 2, 2)), shapes=((3, 2), (4, 2)), forward=False),
    Probe(functools.partial(scaled_at, rows=(1, 1)), shapes=((3,), (2,)), forward=False),
    reads=("indices update", "", "x indices update"),
    latex=(
        r"<0>; \quad <y>[<1>] \mathrel{\cdot}= <2>",
        r"<c> \odot (1; \cdot <2> \text{ at } <1>)",
        "0",
        r"<c>[<1>] \odot (<y> / <2>)[<1>]",
    ),
)
def scatter_mul_vjp(ct, out, x, indices, update, *, update_jaxpr, update_consts, **params):
    """y_j = x_j prod of u_i over the i with p(i) = j
    =>  x_bar = y_bar prod of those u_i,  u_i_bar = (y_bar x) at p(i) times the product of the other u with that place.
    """
    places = _places(indices, update, x, **params)

    def update_bar():
        bar = places.read(lax.mul(ct, x))
        return bar if places.unique else lax.mul(bar, _others(places, update, x.shape))

    return lambda: places.write(lax.scatter_mul, ct, update), None, update_bar


def _others(places, update, shape):
    """For every i the product of the u_k, k != i, with p(k) = p(i): without a division, so zeros are no exception.

    With the updates sorted by place, it is the product of those before i times that of those after i in i's run.
    """
    n = update.size
    if n <= 1:
        return full_like(update, 1)
    kind = "int32" if max(prod(shape), n) < 2**31 else "int64"
    where = lax.reshape(places.read(lax.reshape(lax.iota(kind, prod(shape)), shape), -1), (n,))
    where, order = lax.sort((where, lax.iota(kind, n)), num_keys=1, is_stable=True)
    factors = jnp.take(lax.reshape(update, (n,)), order, mode="clip", unique_indices=True)

    def combine(left, right):
        (left_new, left_product), (right_new, right_product) = left, right
        product = lax.select(right_new, right_product, lax.mul(left_product, right_product))
        return lax.bitwise_or(left_new, right_new), product

    same = lax.eq(lax.slice(where, (0,), (n - 1,)), lax.slice(where, (1,), (n,)))
    same_before = lax.concatenate([lax.full((1,), False), same], 0)
    same_after = lax.concatenate([same, lax.full((1,), False)], 0)
    one = lax.full((1,), 1, update.dtype)

    def exclusive(factors, joined):
        """Products of the factors before each, from the start of its run."""
        moved = lax.concatenate([one, lax.slice(factors, (0,), (n - 1,))], 0)
        moved = lax.select(joined, moved, full_like(moved, 1))
        return lax.associative_scan(combine, (lax.bitwise_not(joined), moved))[1]

    before = exclusive(factors, same_before)
    after = lax.rev(exclusive(lax.rev(factors, (0,)), lax.rev(same_after, (0,))), (0,))
    back = jnp.zeros_like(order).at[order].set(lax.iota(kind, n), unique_indices=True)
    products = jnp.take(lax.mul(before, after), back, mode="clip", unique_indices=True)
    return lax.reshape(products, update.shape)


def _extremal_forward(primitive, tape, values, slots, update_jaxpr, update_consts, params):
    """Whatever equals the extremum takes an equal share of y_bar.  What does is noted at the places alone, forward."""
    out = primitive.bind(*values, update_jaxpr=update_jaxpr, update_consts=update_consts, **params)
    x, indices, update = values
    x_type, update_type = jax.typeof(x), jax.typeof(update)

    def integers(truth):
        return lax.convert_element_type(truth, "int32")  # half precision would stop counting at 256 or 2048

    places = _places(indices, update_type, x_type, **params)
    extremum = places.read(out, jnp.nan)
    kept = lax.eq(places.read(x, jnp.nan), extremum)
    won = lax.eq(update, extremum)
    winners = places.write(lax.scatter_add, full_like(x_type, 0, "int32"), integers(won))
    sharers = lax.max(lax.add(places.read(winners), integers(kept)), np.int32(1))

    def pull_back(residuals, cts):
        indices, kept, won, sharers = residuals
        places, [ct] = _places(indices, update_type, x_type, **params), cts
        share = lax.div(places.read(ct), lax.convert_element_type(sharers, ct.dtype))
        zero = zeros_like(share)
        return (
            lambda: places.write(lax.scatter, ct, lax.select(kept, share, zero)),
            None,
            lambda: lax.select(won, share, zero),
        )

    return tape.call(
        primitive, pull_back, (indices, kept, won, sharers), slots, [out], tape.new_slots([out]), explicit=False
    )


@call_rule(
    scatter_min_p,
    *_probes(lax.scatter_min, clip="drop"),  # JAX loses the cotangents of clipped places
    Probe(lambda x, u: x.at[jnp.array([1, 1, -1, 9])].min(u), shapes=((4,), (4,)), distinct=0.01),
    latex=(
        r"<0>; \quad <y>[<1>] = \min(<y>[<1>], <2>)",
        r"<c> \odot [<y> = <0>]",
        "0",
        r"<c>[<1>] \odot [<y>[<1>] = <2>]",
    ),
)
def scatter_min_forward(
    tape: Any, values: Any, slots: Any, *, update_jaxpr: Any, update_consts: Any, **params: Any
) -> Any:
    """y_j = min of x_j and the u_i with p(i) = j  =>  x_j_bar = 1(x_j = y_j) y_j_bar,
    u_i_bar = 1(u_i = y_p(i)) y_bar at p(i);  those that tie share y_bar equally (a convention)."""
    return _extremal_forward(scatter_min_p, tape, values, slots, update_jaxpr, update_consts, params)


@call_rule(
    scatter_max_p,
    *_probes(lax.scatter_max, clip="drop"),  # JAX loses the cotangents of clipped places
    Probe(lambda x, u: x.at[jnp.array([1, 1, -1, 9])].max(u), shapes=((4,), (4,)), distinct=0.01),
    latex=(
        r"<0>; \quad <y>[<1>] = \max(<y>[<1>], <2>)",
        r"<c> \odot [<y> = <0>]",
        "0",
        r"<c>[<1>] \odot [<y>[<1>] = <2>]",
    ),
)
def scatter_max_forward(
    tape: Any, values: Any, slots: Any, *, update_jaxpr: Any, update_consts: Any, **params: Any
) -> Any:
    """y_j = max of x_j and the u_i with p(i) = j  =>  x_j_bar = 1(x_j = y_j) y_j_bar,
    u_i_bar = 1(u_i = y_p(i)) y_bar at p(i);  those that tie share y_bar equally (a convention)."""
    return _extremal_forward(scatter_max_p, tape, values, slots, update_jaxpr, update_consts, params)
