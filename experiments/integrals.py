"""Integrals: how fast the textbook's rules converge, and an integrator that knows its error.

Orders: each rule is tried with many n between 16 and 32, 32 and 64, ...; the root mean square of an octave's errors
smooths out where a kink falls within its interval, and the slope of its logarithm against that of n is the order.
Where theory says "faster than any power", 1e-12 must be reached with at most 40 evaluations.  Rounding is kept out by
leaving out what is below 1e-12.  The rules add up exactly (fsum).

`integrals.integrate`, areas and volumes are held against antiderivatives in 40 digits; areas between curves against
mpmath's roots and integrals of the pieces; a solid's volume by discs (or washers) and by shells is the same number,
found from two different integrals.  What diverges must be refused: Gabriel's horn holds pi and cannot be painted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

from experiments.cases import quadrature
from experiments.cases.quadrature import BETWEEN, ENDLESS, EXACT, INTEGRANDS, RULES, SOLIDS, SPECTRAL, Integrand
from experiments.drawing import integrals as drawing
from experiments.framework import progress, settings
from experiments.framework.result import Check, Result, Table
from functional_dl import integrals
from functional_dl.integrals import geometry

CLAIM = (
    "Rectangles converge with order 1, midpoints and trapezoids with 2, Simpson's rule with 4 and Gauss's faster than "
    "any power, on smooth functions only: kinks and steep ends set the order. integrals.integrate, areas and volumes "
    "are right within the error they report, whatever the function."
)
ORDER = 0.1  # how far a measured order may be from theory's
FLOOR = 1e-12  # relative error below which rounding may count
EVALUATIONS = 40  # evaluations within which spectral convergence reaches FLOOR
plot = drawing.plot


@dataclass(frozen=True)
class Config:
    """Settings of the integrals."""

    doublings: int = 8
    """Numbers of intervals go up to 16 times 2 to this power; Gauss's rule stops at 256."""
    octave: int = 32
    """Numbers of intervals tried from one power of 2 to the next."""
    seed: int = 0
    """Of the choice of these numbers."""

    def __post_init__(self):
        settings.at_least(self, 2, "doublings", "octave")
        settings.at_least(self, 0, "seed")


SMOKE = Config(doublings=3, octave=8)
GAUSS_UP_TO = 256


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        orders = {name: _orders(case, config) for name, case in progress.over(INTEGRANDS.items(), "integrands")}
        single = {name: _integrated(case) for name, case in INTEGRANDS.items()}
        exact = [_held(name, integrals.integrate(f, a, b), true) for name, f, a, b, true in EXACT]
        refused = [(name, integrals.integrate(f, a, b)) for name, f, a, b in ENDLESS]
        refused.append(("Gabriel's horn, surface", integrals.surface_of_revolution(lambda x: 1 / x, 1.0, math.inf)))
        areas = [_area(case) for case in BETWEEN]
        solids = {name: _solid(name) for name in progress.over(SOLIDS, "solids")}
    held = [*single.values(), *exact, *areas, *(by for solid in solids.values() for by in solid["ways"])]
    return Result(
        claim=CLAIM,
        checks=_checks(orders, held, refused, areas, solids),
        numbers={
            "largest error, as a share of the one reported": max(entry["share"] for entry in held),
            **{f"{name}: discs": solid["ways"][0]["value"] for name, solid in solids.items()},
        },
        metrics=[
            *({"integrand": name, "rule": rule, "order": found["order"], "theory": found["theory"]}
              for name, rules in orders.items() for rule, found in rules.items()),
            *held,
        ],
        table=Table(
            COLUMNS, [*_order_rows(orders, single), *_held_rows(exact, areas, solids), *_refused_rows(refused)]
        ),
        curves={"orders": orders, "single": single, "areas": areas, "solids": solids},
    )  # fmt: skip


# ---- orders --------------------------------------------------------------------------------------------


def _orders(case: Integrand, config: Config) -> dict:
    """For each rule the errors against evaluations, the order measured, and theory's."""
    found = {}
    with mpmath.workdps(40):
        true = float(case.true(mpmath))
    for (name, rule), theory in zip(RULES.items(), case.orders):
        counts = _counts(config, GAUSS_UP_TO if name == "Gauss" else 16 * 2**config.doublings)
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = [rule(lambda x: case.fun(np, x), case.a, case.b, int(n)) for n in counts]
            errors = np.abs([total - true for total, _ in sums]) / abs(true)
        evaluations = np.array([used for _, used in sums])
        found[name] = {
            "evaluations": evaluations,
            "errors": errors,
            "theory": theory,
            "order": _slope(evaluations, errors) if theory not in (None, SPECTRAL) else theory,
            "reached": int(evaluations[errors <= FLOOR].min(initial=10**9)),
        }
    return found


def _counts(config: Config, most: int) -> np.ndarray:
    """Numbers of intervals from 4 on: some of every octave, drawn at random, or a kink would beat with them."""
    draws = np.random.default_rng(config.seed)
    octaves = [np.arange(2**k, 2 ** (k + 1)) for k in range(2, int(np.log2(most)))]
    return np.sort(np.concatenate([draws.choice(n, min(config.octave, len(n)), replace=False) for n in octaves]))


def _slope(evaluations, errors) -> float:
    """Order of convergence, from the root mean square errors of octaves of evaluations."""
    block = np.floor(np.log2(evaluations - 1)).astype(int)  # n + 1 evaluations belong to n
    points = []
    for k in np.unique(block[evaluations >= 8]):
        chosen = block == k
        size = np.sqrt(np.mean(errors[chosen] ** 2))
        if size > 30 * FLOOR:
            points.append((np.mean(np.log(evaluations[chosen])), np.log(size)))
    used = np.array(points[max(0, min(3, len(points) - 4)) :])  # theory does not speak of the widest intervals
    return float(-np.polyfit(used[:, 0], used[:, 1], 1)[0])


# ---- what the library says -----------------------------------------------------------------------------


def _held(name: str, found, true, times: int = 1) -> dict:
    """A value of the library beside the true one."""
    value = times * float(found.value)
    with mpmath.workdps(40):
        exact = mpmath.mpf(true(mpmath) if callable(true) else true)
        error = float(abs(mpmath.mpf(value) - exact))
    reported = times * float(found.error)
    return {
        "name": name,
        "value": value,
        "true": float(exact),
        "error": error,
        "reported": reported,
        "share": error / reported if error else 0.0,
        "converged": bool(found.converged),
        "evaluations": int(found.evaluations),
    }


def _integrated(case: Integrand) -> dict:
    found = integrals.integrate(lambda x: case.fun(jnp, x), case.a, case.b)
    return _held(case.formula, found, case.true)


def _area(case: quadrature.Between) -> dict:
    f, g = (lambda x: case.f(jnp, x)), (lambda x: case.g(jnp, x))
    roots, area = quadrature.true_area(case)
    crossings = geometry.crossings(lambda x: f(x) - g(x), case.a, case.b)
    found = _held(f"between {case.name}", integrals.area_between(f, g, case.a, case.b), area)
    same = len(roots) == len(crossings)
    off = max(abs(x - y) for x, y in zip(roots, crossings)) if same else math.inf
    net = float(integrals.integrate(lambda x: f(x) - g(x), case.a, case.b).value)
    return found | {"crossings": crossings, "off": off, "net": net}


def _solid(name: str) -> dict:
    solid = SOLIDS[name]
    ways = [
        _held(f"{name}, discs", integrals.volume_of_revolution(**solid.discs), solid.true),
        _held(f"{name}, shells", integrals.volume_of_revolution(**solid.shells), solid.true, solid.times),
    ]
    return {"ways": ways, "formula": solid.formula}


# ---- verdict -------------------------------------------------------------------------------------------


def _checks(orders, held, refused, areas, solids) -> list[Check]:
    pairs = [(name, rule, found) for name, rules in orders.items() for rule, found in rules.items()]
    finite = [p for p in pairs if p[2]["theory"] not in (None, SPECTRAL)]
    fast = [p for p in pairs if p[2]["theory"] == SPECTRAL]
    smooth = orders["smooth"]
    worst = max(finite, key=lambda p: abs(p[2]["order"] - p[2]["theory"]))
    slowest = max(fast, key=lambda p: p[2]["reached"])
    honest = [entry["converged"] and entry["error"] <= entry["reported"] for entry in held]
    sharp = max(entry["reported"] / max(1.0, abs(entry["true"])) for entry in held)
    apart = max(abs(s["ways"][0]["value"] - s["ways"][1]["value"]) / s["ways"][0]["true"] for s in solids.values())
    off = max(area["off"] for area in areas)
    return [
        Check(
            "smooth function: orders 1, 1, 2, 2, 4 to 0.1",
            ", ".join(f"{rule} {smooth[rule]['order']:.2f}" for rule in list(RULES)[:5]),
            all(abs(smooth[rule]["order"] - smooth[rule]["theory"]) <= ORDER for rule in list(RULES)[:5]),
        ),
        Check(
            f"all {len(finite)} orders are theory's to {ORDER:g}, with a kink and with steep or infinite ends too",
            f"worst {worst[2]['order']:.2f} for {worst[2]['theory']:g}: {worst[1]}, {worst[0]}",
            abs(worst[2]["order"] - worst[2]["theory"]) <= ORDER,
        ),
        Check(
            f"faster than any power, where theory says so: 1e-12 within {EVALUATIONS} evaluations",
            f"{slowest[2]['reached']} at most ({slowest[1]}, {slowest[0]})",
            slowest[2]["reached"] <= EVALUATIONS,
        ),
        Check(
            "integrals, areas, volumes: converged, and the true error within the reported one",
            f"{sum(honest)} of {len(honest)}",
            all(honest),
        ),
        Check("reported errors at most 1e-8, relative above 1", f"{sharp:.1e}", sharp <= 1e-8),
        Check("crossings of curves equal mpmath's to 1e-14", f"{off:.1e} off", off <= 1e-14),
        Check("discs and shells give the same volume to 1e-12", f"{apart:.1e} relative", apart <= 1e-12),
        Check(
            "what diverges is refused with a reason",
            f"{sum(not bool(r.converged) and bool(r.reason) for _, r in refused)} of {len(refused)}",
            all(not bool(r.converged) and r.reason for _, r in refused),
        ),
    ]


COLUMNS = ["what", "by", "value", "true", "error", "reported error", "evaluations", "note"]


def _order_rows(orders: Mapping, single: Mapping) -> list[list]:
    rows = []
    for name, rules in orders.items():
        case, entry = INTEGRANDS[name], single[name]
        for rule, found in rules.items():
            rows.append([case.formula, rule, None, None, float(found["errors"][-1]), None,
                         int(found["evaluations"][-1]), _order_words(found)])  # fmt: skip
        rows.append(_row(entry, case.formula, "integrate"))
    return rows


def _order_words(found: dict) -> str:
    if found["theory"] is None:
        return "evaluates f where it is infinite"
    if found["theory"] == SPECTRAL:
        return f"faster than any power: 1e-12 with {found['reached']}"
    return f"order {found['order']:.2f}, theory {found['theory']:g}"


def _row(entry: dict, what: str, by: str, note: str = "") -> list:
    return [what, by, *(entry[key] for key in ("value", "true", "error", "reported", "evaluations")), note]


def _held_rows(exact, areas, solids) -> list[list]:
    rows = [_row(entry, entry["name"], "integrate") for entry in exact]
    for area in areas:
        places = ", ".join(f"{x:.4g}" for x in area["crossings"])
        rows.append(_row(area, area["name"], "area_between", f"cross at {places}"))
    for name, solid in solids.items():
        rows += [_row(way, name, by, solid["formula"]) for way, by in zip(solid["ways"], ("discs", "shells"))]
    return rows


def _refused_rows(refused) -> list[list]:
    return [[name, "refused", None, "none", None, float(found.error), int(found.evaluations), found.reason]
            for name, found in refused]  # fmt: skip
