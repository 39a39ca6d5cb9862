"""The recurrent network: backpropagation through time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl import reverse
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, outer, pulled_back
from functional_dl.derivations.step import Oracle, Step

TIME = "delta through time"


def run(w: Array, u: Array, b: Array, h0: Any, xs: Any, shift: Any = None) -> Any:
    """h_t = tanh(a_t), a_t = W h_{t-1} + U x_t + b (+ shift_t), stacked over t."""
    hidden, found = h0, []
    for t in range(xs.shape[0]):
        a = w @ hidden + u @ xs[t] + b
        hidden = jnp.tanh(a if shift is None else a + shift[t])
        found.append(hidden)
    return jnp.stack(found)


def before(w: Array, u: Array, b: Array, h0: Any, xs: Any) -> Any:
    """h_{t-1} for t = 1..T."""
    return jnp.concatenate([h0[None], run(w, u, b, h0, xs)[:-1]])


def slopes(*primals: Any) -> Any:
    """tanh'(a_t) = 1 - h_t^2."""
    return 1 - run(*primals) ** 2


def jacobian(primals: Any, t: int, s: int) -> Any:
    """dh_t / da_s = D_t W D_{t-1} W ... W D_s for s <= t."""
    w, d = primals[0], slopes(*primals)
    product = jnp.diag(d[s])
    for r in range(s + 1, t + 1):
        product = jnp.diag(d[r]) @ w @ product
    return product


def pairs(primals: Any, ct: Array) -> Any:
    """For every s <= t: (s, (dh_t / da_s)^T h_bar_t)."""
    steps = range(ct.shape[0])
    return [(s, jacobian(primals, t, s).T @ ct[t]) for t in steps for s in steps if s <= t]


def summed(primals: Any, ct: Array) -> Any:
    """delta_s = sum over t >= s."""
    found = [jnp.zeros(ct.shape[1])] * ct.shape[0]
    for s, part in pairs(primals, ct):
        found[s] = found[s] + part
    return jnp.stack(found)


def first_step_apart(primals: Any, ct: Array) -> Any:
    """delta_s with the term t = s apart, and the first factor W D_s taken out of the others."""
    w, d = primals[0], slopes(*primals)
    found = []
    for s in range(ct.shape[0]):
        onward = jnp.zeros(ct.shape[1])
        for t in range(s + 1, ct.shape[0]):
            onward = onward + jacobian(primals, t, s + 1).T @ ct[t]
        found.append(d[s] * (ct[s] + w.T @ onward))
    return jnp.stack(found)


def deltas(primals: Any, ct: Array) -> Any:
    """delta_s by the recurrence, from the last step backwards."""
    w, d = primals[0], slopes(*primals)
    found = [d[-1] * ct[-1]]
    for s in reversed(range(ct.shape[0] - 1)):
        found.insert(0, d[s] * (ct[s] + w.T @ found[0]))
    return jnp.stack(found)


def by_quotients(h: Array, *point: Any) -> Any:
    """(<h_bar, run(a_s + h e_i)> - <h_bar, run>) / h for all s and i."""
    *primals, ct = point
    here = run(*primals)

    def entry(e):
        return jnp.vdot(ct, run(*primals, shift=h * e) - here) / h

    return jax.vmap(entry)(jnp.eye(ct.size).reshape(ct.size, *ct.shape)).reshape(ct.shape)


@jax.jit
def by_reverse(*point: Any) -> Any:
    *primals, ct = point
    return reverse.vjp(lambda shift: run(*primals, shift=shift), jnp.zeros_like(ct))[1](ct)[0]


def chain(
    name: str,
    symbol: str,
    index: str,
    place: int,
    pair_line: Callable[..., Any],
    pair_latex: str,
    closed: Callable[..., Any],
    latex: str,
    reason: str,
) -> tuple[Step, Step, Step, Step]:
    """Definition, sum over all pairs s <= t, sum over s with delta_s, closed form."""
    of_pairs = pair_latex.replace("D", r"\left[ (\partial h_t / \partial a_s)^\top \bar h_t \right]")
    of_deltas = pair_latex.replace("D_i", r"\delta_{si}")
    return (
        Step(
            rf"\bar {symbol}_{{{index}}} = \sum_{{t,k}} \bar h_{{tk}} \lim_{{\eta \to 0}}"
            rf" \frac{{h_{{tk}}({symbol} + \eta E_{{{index}}}) - h_{{tk}}({symbol})}}{{\eta}}",
            "the definition of the cotangent; every output $h_t$ counts",
            pulled_back(run, place),
            chain=name,
        ),
        Step(
            rf"= \sum_t \sum_{{s \le t}} {of_pairs}",
            f"{symbol} is used at every step s, and each use reaches every later output: all uses add up",
            lambda *point: sum(pair_line(s, part, *point) for s, part in pairs(point[:-1], point[-1])),
            kind="limit",
            chain=name,
        ),
        Step(
            rf"= \sum_s {of_deltas}, \quad \delta_s = \sum_{{t \ge s}} (\partial h_t / \partial a_s)^\top \bar h_t",
            "the sums exchanged: what is used at s is collected first",
            lambda *point: sum(pair_line(s, part, *point) for s, part in enumerate(summed(point[:-1], point[-1]))),
            chain=name,
        ),
        Step(latex, reason, closed, chain=name),
    )


STEPS = (
    Step(
        r"\delta_{si} := \sum_{t,k} \bar h_{tk} \frac{\partial h_{tk}}{\partial a_{si}} = \sum_{t,k} \bar h_{tk}"
        r" \lim_{\eta \to 0} \frac{h_{tk}(a_s + \eta e_i) - h_{tk}(a_s)}{\eta}, \quad a_s = W h_{s-1} + U x_s + b",
        "the definition of delta: the effect of what enters the tanh at step s on all outputs",
        Limit(by_quotients),
        chain=TIME,
    ),
    Step(
        r"\delta_s = \sum_{t \ge s} (D_t W D_{t-1} \cdots W D_s)^\top\, \bar h_t, \quad D_r = \operatorname{diag}(1"
        r" - h_r^2)",
        "the chain rule along the steps from s to t; outputs before s do not feel it",
        lambda *point: summed(point[:-1], point[-1]),
        kind="limit",
        chain=TIME,
    ),
    Step(
        r"= D_s \left( \bar h_s + W^\top \sum_{t > s} (D_t W \cdots W D_{s+1})^\top\, \bar h_t \right)",
        "the term t = s apart; the other terms share their first factor",
        lambda *point: first_step_apart(point[:-1], point[-1]),
        chain=TIME,
    ),
    Step(
        r"= (1 - h_s^2) \odot \left( \bar h_s + W^\top \delta_{s+1} \right), \quad \delta_{T+1} = 0",
        r"the sum is $\delta_{s+1}$: one sweep from the last step to the first",
        lambda *point: deltas(point[:-1], point[-1]),
        chain=TIME,
    ),
    *chain(
        "W", "W", "ij", 0,
        lambda s, part, *point: outer(part, before(*point[:-1])[s]),
        r"D_i\, h_{s-1,j}",
        lambda *point: deltas(point[:-1], point[-1]).T @ before(*point[:-1]),
        r"\bar W = \sum_s \delta_s\, h_{s-1}^\top",
        "with delta by its recurrence, as a matrix product over the steps",
    ),
    *chain(
        "U", "U", "ij", 1,
        lambda s, part, *point: outer(part, point[4][s]),
        r"D_i\, x_{sj}",
        lambda *point: deltas(point[:-1], point[-1]).T @ point[4],
        r"\bar U = \sum_s \delta_s\, x_s^\top",
        "with delta by its recurrence, as a matrix product over the steps",
    ),
    *chain(
        "b", "b", "i", 2,
        lambda s, part, *point: part,
        "D_i",
        lambda *point: deltas(point[:-1], point[-1]).sum(0),
        r"\bar b = \sum_s \delta_s",
        "with delta by its recurrence",
    ),
    Step(
        r"\bar h_{0,i} = \sum_{t,k} \bar h_{tk} \lim_{\eta \to 0} \frac{h_{tk}(h_0 + \eta e_i) - h_{tk}(h_0)}{\eta}",
        "the definition of the first state's cotangent",
        pulled_back(run, 3),
        chain="h0",
    ),
    Step(
        r"= \sum_t \left[ W^\top (\partial h_t / \partial a_1)^\top \bar h_t \right]_i",
        "$h_0$ acts through $a_1$ alone",
        lambda *point: sum(point[0].T @ part for s, part in pairs(point[:-1], point[-1]) if s == 0),
        kind="limit",
        chain="h0",
    ),
    Step(
        r"\bar h_0 = W^\top \delta_1",
        "the sum is delta at the first step",
        lambda *point: point[0].T @ deltas(point[:-1], point[-1])[0],
        chain="h0",
    ),
    Step(
        r"\bar x_{sj} = \sum_{t,k} \bar h_{tk} \lim_{\eta \to 0} \frac{h_{tk}(x_s + \eta e_j) - h_{tk}(x_s)}{\eta}",
        "the definition of the inputs' cotangents",
        pulled_back(run, 4),
        chain="xs",
    ),
    Step(
        r"= \sum_{t \ge s} \left[ U^\top (\partial h_t / \partial a_s)^\top \bar h_t \right]_j",
        "$x_s$ acts through $a_s$ alone",
        lambda *point: summed(point[:-1], point[-1]) @ point[1],
        kind="limit",
        chain="xs",
    ),
    Step(
        r"\bar x_s = U^\top \delta_s",
        "the sum is delta at step s",
        lambda *point: deltas(point[:-1], point[-1]) @ point[1],
        chain="xs",
    ),
)  # fmt: skip

RNN = Derivation(
    "rnn",
    "The recurrent network: backpropagation through time",
    r"h_t = \tanh(W h_{t-1} + U x_t + b) \quad\Rightarrow\quad \delta_s = (1 - h_s^2) \odot (\bar h_s"
    r" + W^\top \delta_{s+1}),\;"
    r" \bar W = \sum_s \delta_s h_{s-1}^\top,\; \bar U = \sum_s \delta_s x_s^\top,\; \bar b = \sum_s \delta_s",
    STEPS,
    "Werbos 1990; Goodfellow, Bengio, Courville 2016, section 10.2.2",
    drawing(normal(2, 2), normal(2, 2), normal(2), normal(2), normal(3, 2), normal(3, 2)),
    fun=run,
    arguments=("W", "U", "b", "h0", "xs"),
    oracles=(Oracle("reverse.vjp with respect to a", by_reverse, TIME),),
    point="W and U, shape (2, 2); b and h_0, shape (2,); three inputs x_t, shape (3, 2); the cotangents of h_1..h_3",
    notes=("The product of the W D is why gradients vanish or explode over many steps.",),
)

DERIVATIONS = (RNN,)
