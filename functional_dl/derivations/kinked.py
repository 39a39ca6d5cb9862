"""A kink of a function of one number, as a chain of its own: the interval of slopes, and the value taken from it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from functional_dl import check
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.step import Oracle, Step


def at_kink(
    symbol: str, where: str, fun: Callable[..., Any], at: float, ends: tuple[float, float], value: float, name: str = ""
) -> tuple[tuple[Step, Step, Step], Oracle]:
    r"""(steps, oracle) of the chain "at WHERE": Clarke's interval from the one-sided slopes, and the element taken.

    Args:
      symbol: the function in LaTeX; where: the point in LaTeX.
      fun: the function of one number; at: the point.
      ends: the interval; value: what the convention takes.
      name: of the chain.
    """
    chain = name or f"at {where}"
    low, high = ends
    bounds = rf"[{low:g}, {high:g}]" if low != high else rf"\{{ {low:g} \}}"

    def sides(h, *_):
        left, right = (fun(at) - fun(at - h)) / h, (fun(at + h) - fun(at)) / h
        return jnp.stack([jnp.minimum(left, right), jnp.maximum(left, right)])

    def measured(*_):
        interval = check.subdifferential(fun, at)
        return check.Estimate(jnp.asarray([interval.low, interval.high]), interval.error)

    steps = (
        Step(
            rf"\partial {symbol}({where}) = \left[ \lim_{{h \to 0^+}} \frac{{{symbol}({where}) - {symbol}({where}"
            rf" - h)}}{{h}},"
            rf"\; \lim_{{h \to 0^+}} \frac{{{symbol}({where} + h) - {symbol}({where})}}{{h}} \right]",
            "Clarke's subdifferential of a function of one number: from the smaller one-sided slope to the larger",
            Limit(sides),
            chain=chain,
        ),
        Step(
            rf"= {bounds}",
            "the function is linear, or smooth, on either side",
            lambda *_: jnp.asarray([float(low), float(high)]),
            kind="limit",
            chain=chain,
        ),
        Step(
            rf"\ni {value:g}",
            "the value taken by convention lies in it"
            if low != high
            else "the two sides agree: this is the derivative",
            lambda *_: jnp.asarray(float(value)),
            kind="element_of",
            chain=chain,
        ),
    )
    return steps, Oracle("check.subdifferential", measured, chain, "first")
