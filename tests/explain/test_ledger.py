"""The ledger against XLA's own count, and against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import explain, reverse
from functional_dl.explain.record import flops
from tests.explain import programs

# Sizes at which products of matrices are most of the work, as in training; below that XLA's fusions, which compute
# cheap things twice, are a few per cent.
LARGE = {
    "mlp": (programs.mlp, lambda: programs.mlp_arguments((64, 128, 10), 64)),
    "cnn": (programs.cnn, lambda: programs.cnn_arguments(4, 16, 16)),
    "transformer": (programs.transformer, lambda: programs.transformer_arguments(2, 64, 4, 16)),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.sampled(4)
def test_totals_agree_with_xla(name):
    fun, arguments = LARGE[name]
    args = arguments()
    shown = explain.explain(fun, *args, argnums=0, check=False, values=False)
    cost = jax.jit(reverse.value_and_grad(fun)).lower(*args).compile().cost_analysis()
    total = shown.ledger.forward_flops + shown.ledger.backward_flops
    np.testing.assert_allclose(total, cost["flops"], rtol=0.01)


def test_xlas_own_count_on_request():
    shown = explain.explain(lambda w, x: jnp.sum(x @ w), jnp.ones((8, 8)), jnp.ones((8, 8)), argnums=0, xla=True)
    assert shown.ledger.xla_flops > 0
    assert "XLA counts" in shown.ledger.to_markdown()


def test_a_product_of_matrices_costs_three():
    """2 m n k forward, and as much for each of the two cotangents."""
    shown = explain.explain(lambda a, b: a @ b, jnp.ones((3, 4)), jnp.ones((4, 5)), check=False)
    assert shown.ledger.forward_flops == 2 * 3 * 4 * 5
    assert shown.ledger.backward_flops == 4 * 3 * 4 * 5
    assert shown.ledger.ratio == 3.0


def test_sums_of_paths_are_counted():
    shown = explain.explain(lambda x: jnp.sin(x) + jnp.cos(x), jnp.ones(7), check=False)
    # y_bar cos x, -(y_bar sin x): 1 and 2 operations an entry; 1 for their sum
    assert shown.ledger.backward_flops == (1 + 2 + 1) * 7


def test_a_loops_body_counts_once_a_trip():
    def f(x):
        return lax.scan(lambda s, _: (s * x, None), x, None, length=10)[0]

    shown = explain.explain(f, jnp.ones(3), check=False)
    assert shown.ledger.forward_flops == 10 * 3


@pytest.mark.parametrize(
    ("fun", "shapes", "expected"),
    [
        (lambda x: jnp.sum(x), ((4, 5),), 19),
        (lambda x: jnp.exp(x), ((4, 5),), 0),
        (lambda x: x**3, ((4,),), 8),
        (lambda x: x.T.reshape(-1), ((4, 5),), 0),
        (lambda x, k: lax.conv(x, k, (1, 1), "VALID"), ((1, 2, 5, 5), (3, 2, 3, 3)), 2 * 9 * 3 * 18),
        (lambda x, k: lax.conv(x, k, (1, 1), "SAME"), ((1, 1, 3, 3), (1, 1, 3, 3)), 2 * 49),
    ],
)
def test_counts(fun, shapes, expected):
    jaxpr = jax.make_jaxpr(fun)(*[jnp.ones(shape) for shape in shapes])
    assert flops.count(jaxpr) == expected


def test_peak_is_at_least_what_is_kept_and_less_than_all():
    def f(x):
        for _ in range(6):
            x = jnp.sin(x)
        return jnp.sum(x)

    shown = explain.explain(f, jnp.ones(1000), check=False)
    kept = shown.ledger.residual_bytes
    assert kept == 5 * 8000  # the sine reads its operand; the first of them is the argument
    assert kept < shown.ledger.peak_bytes < kept + 4 * 8000


def test_the_tables_rows_sum_to_its_totals():
    shown = explain.explain(programs.mlp, *programs.mlp_arguments(), check=False, values=False)
    assert sum(row.flops for row in shown.ledger.rows) == shown.ledger.forward_flops
    assert sum(row.backward_flops for row in shown.ledger.rows) == shown.ledger.backward_flops
    lines = shown.ledger.to_markdown().splitlines()
    assert sum(line.startswith("| ") for line in lines) == len(shown.ledger.rows) + 2
