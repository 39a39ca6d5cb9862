"""Penalties: L1 with its subgradient, L2, elastic net."""

from typing import Any

import jax.numpy as jnp

from functional_dl import penalties
from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.kinked import at_kink
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import away, drawing, normal, pulled_back, uniform
from functional_dl.derivations.step import Oracle, Step


def absolute_sum(w: Array) -> Any:
    return jnp.abs(w).sum()


L1_AT_0, L1_INTERVAL = at_kink(r"|\cdot|", "0", lambda w: penalties.l1(w), 0.0, (-1.0, 1.0), 0.0, "at w_i = 0")
L1 = Derivation(
    "l1",
    "The L1 penalty",
    r"\lVert w \rVert_1 = \sum_i |w_i| \quad\Rightarrow\quad \bar w_j = \bar r \operatorname{sign}(w_j)"
    r" \quad (w_j \ne 0)",
    (
        Step(
            r"\bar w_j = \bar r \lim_{h \to 0} \frac{\lVert w + h e_j \rVert_1 - \lVert w \rVert_1}{h}",
            "the definition of the cotangent",
            pulled_back(absolute_sum),
            chain="w",
        ),
        Step(
            r"= \bar r \lim_{h \to 0} \frac{|w_j + h| - |w_j|}{h}",
            "all other terms of the sum cancel",
            Limit(lambda h, w, ct: ct * (jnp.abs(w + h) - jnp.abs(w)) / h),
            chain="w",
        ),
        Step(
            r"= \bar r \lim_{h \to 0} \frac{s_j\,(w_j + h) - s_j w_j}{h}, \quad s_j = \operatorname{sign}(w_j)",
            r"for $|h| < |w_j|$ the sign does not change",
            Limit(lambda h, w, ct: ct * (jnp.sign(w) * (w + h) - jnp.sign(w) * w) / h),
            chain="w",
        ),
        Step(
            r"= \bar r \operatorname{sign}(w_j)",
            "the difference is $s_j h$",
            lambda w, ct: ct * jnp.sign(w),
            kind="limit",
            chain="w",
        ),
        *L1_AT_0,
    ),
    "Tibshirani 1996",
    drawing(away(4), normal()),
    fun=penalties.l1,
    arguments=("w",),
    oracles=(
        Oracle("penalties.subgradient_l1", lambda w, ct: ct * penalties.subgradient_l1(w), "w", "last"),
        L1_INTERVAL,
    ),
    kinks=("$w_i = 0$: slopes -1 and 1; taken: 0, the element of least norm.",),
    kink_points=lambda key: ((jnp.asarray([0.0, 1.0, -2.0, 0.0]), jnp.asarray(1.0)),),
    point="w, shape (4,), away from 0, and the cotangent r of the sum, a number",
)

CHOSEN = "the subgradient inequality"


def along_signs(key: Key) -> Any:
    """u with the signs of w, where the bound is attained."""
    w, u = drawing(away(5), uniform(5, low=0.1, high=2.0))(key)
    return w, jnp.sign(w) * u


L1_SUBGRADIENT = Derivation(
    "l1_subgradient",
    "The sign is a subgradient of the L1 norm",
    r"\lVert u \rVert_1 \ge \lVert w \rVert_1 + \langle \operatorname{sign}(w), u - w \rangle \quad \text{for all } u",
    (
        Step(
            r"\lVert w \rVert_1 + \langle s, u - w \rangle, \quad s = \operatorname{sign}(w)",
            "the tangent plane that s gives at w, looked at in u",
            lambda w, u: absolute_sum(w) + jnp.vdot(jnp.sign(w), u - w),
            chain=CHOSEN,
        ),
        Step(
            r"= \sum_i \left( |w_i| + s_i u_i - s_i w_i \right)",
            "entry by entry",
            lambda w, u: jnp.sum(jnp.abs(w) + jnp.sign(w) * u - jnp.sign(w) * w),
            chain=CHOSEN,
        ),
        Step(
            r"= \sum_i s_i u_i",
            r"$s_i w_i = |w_i|$, at $w_i = 0$ too",
            lambda w, u: jnp.sum(jnp.sign(w) * u),
            chain=CHOSEN,
        ),
        Step(
            r"\le \sum_i |s_i|\, |u_i|",
            "a product is at most the product of the absolute values; equal where u has the signs of w",
            lambda w, u: jnp.sum(jnp.abs(jnp.sign(w)) * jnp.abs(u)),
            kind="upper_bound",
            tight=along_signs,
            chain=CHOSEN,
        ),
        Step(
            r"\le \lVert u \rVert_1",
            r"$|s_i| \le 1$, which is all that was used: any s with entries in $[-1, 1]$ where $w_i = 0$ will do",
            lambda w, u: absolute_sum(u),
            kind="upper_bound",
            tight=along_signs,
            chain=CHOSEN,
        ),
    ),
    "Rockafellar 1970, section 23",
    drawing(lambda key: away(5)(key).at[0].set(0.0), normal(5)),
    oracles=(
        Oracle(
            "penalties.subgradient_l1",
            lambda w, u: penalties.l1(w) + jnp.vdot(penalties.subgradient_l1(w), u - w),
            CHOSEN,
            "first",
        ),
        Oracle("penalties.l1", lambda w, u: penalties.l1(u), CHOSEN, "last"),
    ),
    kinks=("$w_i = 0$: every number in [-1, 1] is a subgradient's entry; the points drawn have such an entry.",),
    point="w, shape (5,), with an entry 0, and u, shape (5,)",
)


def square_sum(w: Array) -> Any:
    return jnp.sum(w**2)


L2 = Derivation(
    "l2",
    "The L2 penalty",
    r"r = \sum_i w_i^2 \quad\Rightarrow\quad \bar w = 2\,\bar r\,w",
    (
        Step(
            r"\bar w_j = \bar r \lim_{h \to 0} \frac{\lVert w + h e_j \rVert_2^2 - \lVert w \rVert_2^2}{h}",
            "the definition of the cotangent",
            pulled_back(square_sum),
        ),
        Step(
            r"= \bar r \lim_{h \to 0} \frac{(w_j + h)^2 - w_j^2}{h}",
            "all other terms of the sum cancel",
            Limit(lambda h, w, ct: ct * ((w + h) ** 2 - w**2) / h),
        ),
        Step(
            r"= \bar r \lim_{h \to 0} (2 w_j + h)",
            "multiplied out and divided by h",
            Limit(lambda h, w, ct: ct * (2 * w + h)),
        ),
        Step(r"= 2\,\bar r\,w_j", "h tends to 0", lambda w, ct: 2 * ct * w, kind="limit"),
    ),
    "Hoerl and Kennard 1970",
    drawing(normal(4), normal()),
    fun=penalties.l2,
    arguments=("w",),
    oracles=(Oracle("penalties.gradient_l2", lambda w, ct: ct * penalties.gradient_l2(w), "w", "last"),),
    point="w, shape (4,), and the cotangent r of the sum, a number",
    notes=("There is no half here, so there is a 2.  With the half the gradient is w: derivation `weight_decay`.",),
)

RATIO = 0.3


def mixture(w: Array) -> Any:
    return RATIO * absolute_sum(w) + (1 - RATIO) * square_sum(w)


ELASTIC_AT_0, ELASTIC_INTERVAL = at_kink(
    "r", "0", lambda w: penalties.elastic_net(w, RATIO), 0.0, (-RATIO, RATIO), 0.0, "at w_i = 0"
)
ELASTIC_NET = Derivation(
    "elastic_net",
    "The elastic net",
    r"r = \rho \lVert w \rVert_1 + (1 - \rho) \lVert w \rVert_2^2 \quad\Rightarrow\quad"
    r" \bar w = \bar r\,(\rho \operatorname{sign}(w) + 2 (1 - \rho) w) \quad (w_i \ne 0)",
    (
        Step(
            r"\bar w_j = \bar r \lim_{h \to 0} \frac{r(w + h e_j) - r(w)}{h}",
            "the definition of the cotangent",
            pulled_back(mixture),
            chain="w",
        ),
        Step(
            r"= \bar r \lim_{h \to 0} \left[ \rho\, \frac{|w_j + h| - |w_j|}{h} + (1 - \rho)\, \frac{(w_j + h)^2"
            r" - w_j^2}{h} \right]",
            "the derivative of a sum is the sum of the derivatives; all other entries cancel",
            Limit(
                lambda h, w, ct: (
                    ct * (RATIO * (jnp.abs(w + h) - jnp.abs(w)) / h + (1 - RATIO) * ((w + h) ** 2 - w**2) / h)
                )
            ),
            chain="w",
        ),
        Step(
            r"= \bar r\, (\rho \operatorname{sign}(w_j) + 2 (1 - \rho)\, w_j)",
            "the derivations `l1` and `l2`",
            lambda w, ct: ct * (RATIO * jnp.sign(w) + 2 * (1 - RATIO) * w),
            kind="limit",
            chain="w",
        ),
        *ELASTIC_AT_0,
    ),
    "Zou and Hastie 2005",
    drawing(away(4), normal()),
    fun=lambda w: penalties.elastic_net(w, RATIO),
    arguments=("w",),
    oracles=(
        Oracle(
            "penalties.subgradient_elastic_net",
            lambda w, ct: ct * penalties.subgradient_elastic_net(w, RATIO),
            "w",
            "last",
        ),
        ELASTIC_INTERVAL,
    ),
    kinks=(r"$w_i = 0$: slopes $-\rho$ and $\rho$; taken: 0.",),
    kink_points=lambda key: ((jnp.asarray([0.0, 1.0, -2.0, 0.0]), jnp.asarray(1.0)),),
    point="w, shape (4,), away from 0, and the cotangent of r, a number; rho is 0.3",
)

DERIVATIONS = (L1, L1_SUBGRADIENT, L2, ELASTIC_NET)
