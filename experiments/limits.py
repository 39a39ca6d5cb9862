"""Limits: found with an error that is not understated, or refused with the reason.

`calculus.limit` never evaluates a function at the point itself.  Its answers are held against closed forms in 50
digits, and the table of these against mpmath, which evaluates the same formulas at a distance of 1e-40 in 320 digits
(and functions of a logarithm at 10^-10^10).  Some limits are drawn at random: a product of two functions minus its
Taylor polynomial, over the next power of x, whose limit is the next coefficient by exact fractions.

For comparison, what a calculator says: the same formula in float64 with 1e-8 (or 1e8) plugged in.

The pictures show the definition.  The band of a function at distance d is the range of its values at 0 < |x - x0| < d;
the limit exists where the band shrinks to a point as d does, and its width bounds the error of stopping there.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import mpmath
import numpy as np

from experiments.cases import limits as cases
from experiments.cases.limits import CASES, NONE, SLOW, Case
from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl import calculus

CLAIM = (
    "Every limit is found with an error that is not understated; where there is none, or none that can be told, "
    "the answer is a reason."
)
ORACLE_AGREES = 1e-9  # of the table of true values with mpmath near the point
SHARP = 1e-11  # reported errors, of what is not as slow as a logarithm
WRONG = 1e-6  # a calculator's answer further off than this is counted as wrong


@dataclass(frozen=True)
class Config:
    """Settings of the limits."""

    drawn: int = 8
    """Limits drawn at random, besides the table."""
    seed: int = 0
    """Of the draws."""
    per_decade: int = 60
    """Points a decade and side at which the pictures evaluate a function."""

    def __post_init__(self):
        settings.at_least(self, 0, "drawn", "seed")
        settings.at_least(self, 4, "per_decade")


SMOKE = Config(drawn=1, per_decade=6)


def run(config: Config) -> Result:
    entries = [_measure(case) for case in progress.over([*CASES, *cases.drawn(config.drawn, config.seed)], "limits")]
    of = lambda *kinds: [entry for entry in entries if entry["case"].kind in kinds]
    finite = of("finite")
    return Result(
        claim=CLAIM,
        checks=_checks(of),
        numbers={
            "limits tried": len(entries),
            "largest error, as a share of the one reported": max(entry["share"] for entry in finite),
            "a calculator is off by more than 1e-6": f"{sum(_far(e) for e in finite)} of {len(finite)}",
            "slowest": f"{max(entry['seconds'] for entry in entries):.1f} s",
        },
        metrics=[{name: entry[name] for name in entry if name != "case"} for entry in entries],
        table=Table(COLUMNS, [_row(entry) for entry in entries]),
        timed=("slowest", "seconds"),
        curves={
            "zoom": [_zoomed(case, config) for case in CASES if case.name in ZOOMED],
            "bands": {case.name: _band(case, config) for case in CASES if case.name in SHRINKING + STAYING},
            "finite": finite,
        },
    )


def _measure(case: Case) -> dict:
    """One limit: what the library says, what is true, what a calculator says."""
    fun = (lambda n: case.fun(math, n)) if case.plain else (lambda x: case.fun(jnp, x))
    began = time.perf_counter()
    found = calculus.limit_of_sequence(fun) if case.whole else calculus.limit(fun, case.x0, case.side)
    seconds = time.perf_counter() - began
    error = _distance(found.value, case) if case.kind == "finite" and found.exists else None
    return {
        "name": case.name,
        "case": case,
        "value": found.value,
        "true": cases.exact(case),
        "error": error,
        "reported": found.error,
        "share": None if error is None else (error / found.error if error else 0.0),
        "exists": found.exists,
        "calculator": cases.calculator(case),
        "reason": found.reason,
        "seconds": seconds,
    }


def _distance(number: float, case: Case) -> float:
    """|number - limit| in 50 digits: float64 would call everything within half an ulp exact."""
    assert callable(case.true)
    with mpmath.workdps(50):
        return float(abs(mpmath.mpf(number) - case.true(mpmath)))


def _far(entry: dict) -> bool:
    return not abs(entry["calculator"] - entry["true"]) <= WRONG


def _checks(of: Callable) -> list[Check]:
    finite, infinite, none, slow = (of(kind) for kind in ("finite", "infinite", NONE, SLOW))
    honest = [entry["exists"] is True and entry["error"] <= entry["reported"] for entry in finite]
    quick = [e["reported"] / max(1.0, abs(e["true"])) for e in finite if not e["case"].deep]
    unbounded = [entry["value"] == entry["true"] and entry["exists"] is False for entry in infinite]
    refused = [_refused(entry) and entry["exists"] is False for entry in none]
    untold = [_refused(entry) and entry["exists"] is None for entry in slow]
    oracle = max(_oracle(entry["case"]) for entry in finite)
    return [
        Check("finite limits within the error reported: all", _count(honest), all(honest)),
        Check(
            f"errors reported where f is not as slow as a logarithm: at most {SHARP:g}, relative above 1",
            f"{max(quick):.1e}",
            max(quick) <= SHARP,
        ),
        Check("growth without bound told, with its sign: all", _count(unbounded), all(unbounded)),
        Check("no limit, and the reason names what f does instead: all", _count(refused), all(refused)),
        Check("as slow as log log x, where no values can tell: refused, not guessed", _count(untold), all(untold)),
        Check(
            f"the true values themselves equal mpmath's next to the point to {ORACLE_AGREES:g}",
            f"{oracle:.1e} off at most",
            oracle <= ORACLE_AGREES,
        ),
    ]


def _refused(entry: dict) -> bool:
    return math.isnan(entry["value"]) and math.isinf(entry["reported"]) and entry["case"].word in entry["reason"]


def _count(found: list[bool]) -> str:
    return f"{sum(found)} of {len(found)}"


def _oracle(case: Case) -> float:
    """How far mpmath's values next to the point are from the limit."""
    return max(float(abs(value - cases.exact(case))) for value in cases.near(case))


COLUMNS = ["f", "at", "limit found", "true", "error", "reported error", "1e-8 plugged in", "why there is none"]
TRUE = {NONE: "none", SLOW: "not to be told"}


def _row(entry: dict) -> list:
    case = entry["case"]
    found = entry["value"] if not math.isnan(entry["value"]) else "none" if entry["exists"] is False else "not told"
    true = entry["true"] if case.kind in ("finite", "infinite") else TRUE[case.kind]
    why = "" if case.kind == "finite" else entry["reason"]
    return [case.name, case.place, found, true, entry["error"], entry["reported"], entry["calculator"], why]


# ---- the band of values around a point -----------------------------------------------------------------

ZOOMED = ("sin x / x", "x sin(1/x)", "|x| / x", "sin(1/x)")
WIDTHS = (1.0, 0.1, 0.01, 0.001)
SHRINKING = ("(1 − cos x) / x²", "(tan x − sin x) / x³", "x sin(1/x)", "xˣ", "x^0.01 log x", "1 / log x")
STAYING = ("sin(1/x)", "|x| / x")
DECADES = 12
POINTS = 20  # a zoomed curve has this many times `per_decade` points


def _zoomed(case: Case, config: Config) -> dict:
    """Values in windows around the point, nearer and nearer, dense towards it."""
    panels, draws = [], np.random.default_rng(config.seed)
    for width in WIDTHS:
        count = POINTS * config.per_decade  # at random places, or what oscillates would beat against the grid
        side = np.concatenate([10 ** draws.uniform(-4, 0, count), draws.uniform(0, 1, 2 * count), [1e-4, 1.0]])
        offset = np.unique(np.concatenate([-side, side])) * width
        panels.append((offset, case.fun(np, case.x0 + offset)))
    return {"name": case.name, "panels": panels, "limit": cases.exact(case)}


def _band(case: Case, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """(distances, width of the band there), evaluated in mpmath: float64 would show its rounding instead."""
    sides = {"left": (-1,), "right": (1,), "both": (-1, 1)}[case.side]
    draws = np.random.default_rng(config.seed)
    # from 10^-1 on; log x makes 1/log x unbounded at 1
    u = 1 + draws.uniform(0, DECADES + 1, (DECADES + 1) * config.per_decade)
    if case.deep:  # what moves like a logarithm may be largest far below
        u = np.concatenate([u, draws.uniform(DECADES, 300, 5 * config.per_decade)])
    u = np.sort(u)[::-1]
    low, high, widths = mpmath.inf, -mpmath.inf, []
    with mpmath.workdps(80):
        for exponent in u:  # from the nearest point outwards
            values = [case.fun(mpmath, case.x0 + side * mpmath.mpf(10) ** -mpmath.mpf(exponent)) for side in sides]
            if case.kind == "finite":  # towards the point itself the values go on to the limit
                assert callable(case.true)
                values.append(case.true(mpmath))
            low, high = min(low, *values), max(high, *values)
            widths.append(float(high - low))
    return 10.0**-u, np.array(widths)


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    return [_plot_zoom(curves["zoom"]), _plot_bands(curves["bands"]), _plot_errors(curves["finite"])]


def _plot_zoom(rows: list) -> Picture:
    figure = style.figure(10.5, 8.2)
    places = figure.subplots(len(rows), len(WIDTHS), sharey="row")
    for row, (across, entry) in enumerate(zip(places, rows)):
        exists = not math.isnan(entry["limit"])
        colour = style.BLUE if exists else style.RED
        for axes, width, (offset, values) in zip(across, WIDTHS, entry["panels"]):
            low, high = values.min(), values.max()
            axes.axhspan(low, high, color=colour, alpha=0.15, linewidth=0)
            for half in (offset < 0, offset > 0):
                axes.plot(offset[half] / width, values[half], color=colour, linewidth=0.7)
            if exists:
                axes.plot([0], [entry["limit"]], "o", color="white", markeredgecolor=style.BLACK, markersize=5)
            axes.set_title(f"band {high - low:.2g}", fontsize=9.5, fontweight="normal", loc="right")
            if row == 0:
                axes.set_title(f"d = {width:g}", fontsize=10.5)
            axes.set_xticks([-1, 0, 1], ["−d", "0", "d"])
        low, high = across[0].get_ylim()
        across[0].set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        across[0].set_ylabel(entry["name"], fontsize=11)
    figure.supxlabel(
        "x, from −d to d: every window is a tenth as wide as the one to its left, and as high", fontsize=10
    )
    return Picture(
        "zoom",
        "Zooming in on x = 0 without zooming the heights. Shaded: the band, from the least to the largest value in the "
        "window. Where there is a limit (blue; the open circle) the band shrinks to a point; a jump or an oscillation "
        "(red) looks the same at every scale, and its band stays 2.",
        figure,
    )


def _plot_bands(bands: Mapping) -> Picture:
    figure = style.figure(8.4, 4.6)
    axes = figure.subplots()
    colours = [*style.COLOURS[:5], style.SKY]
    for name, colour in zip(SHRINKING, colours):
        axes.loglog(*bands[name], color=colour, label=name)
    looks = (
        {"color": style.BLACK, "linestyle": "--", "linewidth": 1.4, "zorder": 3},
        {"color": "#bbbbbb", "linewidth": 5},
    )
    for name, look in zip(STAYING, looks):  # one upon the other: both bands are 2
        axes.loglog(*bands[name], label=f"{name}: no limit", **look)
    axes.set(
        xlabel="distance from the point",
        ylabel="width of the band of values",
        ylim=(1e-28, 1e3),
        xlim=(0.1, 10.0 ** -(1 + DECADES)),
    )
    axes.set_title("A limit exists where the band shrinks: how fast says what stopping early costs")
    axes.legend(loc="lower left", ncols=2)
    return Picture(
        "bands",
        "The width of the band against the distance, to the right ever nearer. Powers of x are lines; 1/log x hardly "
        "moves in twelve decades, and the band of x^0.01 log x begins to shrink only at 1e-43: no limit can be read "
        "off such values. Two bands never shrink; both are 2, so the dashed line lies upon the grey one.",
        figure,
    )


FLOOR = 1e-19


def _plot_errors(finite: list) -> Picture:
    figure = style.figure(8.4, 4.9)
    axes = figure.subplots()
    lift = lambda values: np.maximum(np.array(values, float), FLOOR)
    reported, error = lift([e["reported"] for e in finite]), lift([e["error"] for e in finite])
    plugged = lift([min(abs(e["calculator"] - e["true"]), 1e17) for e in finite])
    ends = (FLOOR / 3, 1e-2)
    axes.fill_between(ends, ends, 1e20, color=style.RED, alpha=0.08, linewidth=0)
    axes.loglog(ends, ends, color=style.BLACK, linewidth=1)
    axes.loglog(reported, plugged, "x", color=style.GREY, markersize=6, label="1e-8 plugged in, float64")
    axes.loglog(reported, error, "o", color=style.BLUE, alpha=0.75, label="calculus.limit")
    axes.text(2e-6, 3e11, "understated", color=style.RED, ha="center")
    axes.text(1e-6, 1e-9, "honest", ha="center")
    axes.set(xlim=ends, ylim=(FLOOR / 3, 1e18), xlabel="error reported", ylabel="true error")
    axes.set_title("No error is larger than it says")
    axes.legend(loc="upper left", bbox_to_anchor=(0.02, 0.9))
    return Picture(
        "errors",
        "Each limit's true error against the error reported with it: none lies above the diagonal. Crosses: the error "
        "of plugging 1e-8 into the same formula, drawn at the same place; cancellation costs it all digits and more. "
        "Errors below 1e-19 are drawn there.",
        figure,
    )
