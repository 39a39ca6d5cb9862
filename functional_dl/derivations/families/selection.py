"""Layers that choose: dropout by a mask, embedding by an index."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp

from functional_dl import layers
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, labels, masks, normal, pulled_back
from functional_dl.derivations.step import Oracle, Step

RATE = 0.4
EXPECTATION = "the expectation over all masks"


def as_number(mask: Any) -> Any:
    return jnp.where(mask, 1.0, 0.0)


def dropped(x: Array, mask: Any) -> Any:
    return as_number(mask) * x / (1 - RATE)


def every_mask(k: Any) -> Iterator[Any]:
    """(mask, its probability) for all 2^k masks."""
    for bits in itertools.product((0.0, 1.0), repeat=k):
        kept = sum(bits)
        yield jnp.asarray(bits), (1 - RATE) ** kept * RATE ** (k - kept)


def expected(x: Array) -> Any:
    return sum(probability * mask * x / (1 - RATE) for mask, probability in every_mask(x.size))


def probability_kept(x: Array) -> Any:
    """P(m_j = 1) for each j, summed over the masks that keep it."""
    return sum(probability * mask for mask, probability in every_mask(x.size))


DROPOUT = Derivation(
    "dropout",
    "Inverted dropout",
    r"y = \frac{m \odot x}{1 - r},\; P(m_j = 1) = 1 - r \quad\Rightarrow\quad \bar x = \frac{m \odot \bar y}{1 - r},"
    r" \quad \mathbb{E}[y] = x",
    (
        Step(
            r"\bar x_j = \sum_k \bar y_k \lim_{h \to 0} \frac{y_k(x + h e_j) - y_k(x)}{h}",
            "the definition of the cotangent; the mask is drawn once and then a constant",
            pulled_back(dropped, 0),
            chain="x",
        ),
        Step(
            r"= \sum_k \bar y_k\, \frac{m_k}{1 - r}\, \delta_{kj}",
            "y is linear in x",
            lambda x, mask, ct: jnp.einsum("k,k,kj->j", ct, as_number(mask) / (1 - RATE), jnp.eye(x.size)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"\bar x = \frac{m \odot \bar y}{1 - r}",
            "one term is left: the backward pass has the same mask and the same factor",
            lambda x, mask, ct: as_number(mask) * ct / (1 - RATE),
            chain="x",
        ),
        Step(
            r"\mathbb{E}[y_j] = \sum_{m \in \{0,1\}^n} \left[ \prod_k (1 - r)^{m_k} r^{1 - m_k} \right]"
            r" \frac{m_j x_j}{1 - r}",
            "the definition of the expectation: all masks, each with its probability",
            lambda x, mask, ct: expected(x),
            chain=EXPECTATION,
        ),
        Step(
            r"= \frac{x_j}{1 - r} \sum_{m : m_j = 1} \prod_k (1 - r)^{m_k} r^{1 - m_k} = \frac{x_j}{1 - r}\, P(m_j"
            r" = 1)",
            "what does not depend on the mask is taken out",
            lambda x, mask, ct: x / (1 - RATE) * probability_kept(x),
            chain=EXPECTATION,
        ),
        Step(
            r"= \frac{x_j}{1 - r}\,(1 - r)",
            "the other units' probabilities sum to 1",
            lambda x, mask, ct: x / (1 - RATE) * (1 - RATE),
            chain=EXPECTATION,
        ),
        Step(r"= x_j", "so that a trained network needs no rescaling", lambda x, mask, ct: x, chain=EXPECTATION),
    ),
    "Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014",
    drawing(normal(5), lambda key: masks(5, kept=1 - RATE)(key) > 0, normal(5)),
    fun=lambda x, mask: layers.apply_mask(mask, x, RATE),
    arguments=("x", "mask"),
    oracles=(
        Oracle(
            "layers.apply_mask over all masks",
            lambda x, mask, ct: sum(p * layers.apply_mask(m > 0, x, RATE) for m, p in every_mask(x.size)),
            EXPECTATION,
        ),
    ),
    point="x, shape (5,), a mask of that shape, and the cotangent of y; the rate r is 0.4",
)


def chosen(ids: Any, table: Any) -> Any:
    """delta_{v, id_t}: (t, v)."""
    return jnp.eye(table.shape[0])[ids]


EMBEDDING = Derivation(
    "embedding",
    "Embedding: rows looked up in a table",
    r"y_t = E_{i_t} \quad\Rightarrow\quad \bar E_v = \sum_{t \,:\, i_t = v} \bar y_t",
    (
        Step(
            r"\bar E_{vj} = \sum_{t,k} \bar y_{tk} \lim_{h \to 0} \frac{y_{tk}(E + h\, e_v e_j^\top) - y_{tk}(E)}{h}",
            "the definition of the cotangent",
            pulled_back(lambda table, ids: table[ids], 0),
        ),
        Step(
            r"= \sum_{t,k} \bar y_{tk}\, \delta_{v,i_t}\, \delta_{kj}",
            r"$y_{tk} = E_{i_t k} = \sum_v \delta_{v,i_t} E_{vk}$ is linear in E",
            lambda table, ids, ct: jnp.einsum("tk,tv,kj->vj", ct, chosen(ids, table), jnp.eye(table.shape[1])),
            kind="limit",
        ),
        Step(
            r"= \sum_t \delta_{v,i_t}\, \bar y_{tj}",
            "one feature is left: the one-hot matrix, transposed, times the cotangent",
            lambda table, ids, ct: chosen(ids, table).T @ ct,
        ),
        Step(
            r"= \sum_{t \,:\, i_t = v} \bar y_{tj}",
            "in code: added row by row; an index that occurs twice adds twice, and setting would lose one",
            lambda table, ids, ct: jnp.zeros_like(table).at[ids].add(ct),
        ),
    ),
    "Mikolov, Chen, Corrado, Dean 2013",
    drawing(normal(4, 3), labels(5, classes=4), normal(5, 3)),
    fun=lambda table, ids: table[ids],
    arguments=("E", "ids"),
    extra_points=lambda key: ((normal(4, 3)(key), jnp.asarray([2, 2, 2]), normal(3, 3)(key)),),
    point="E, shape (4, 3); five indices, some of which repeat; the cotangent of y, shape (5, 3)",
)

DERIVATIONS = (DROPOUT, EMBEDDING)
