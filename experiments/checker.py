"""The checker against backward passes with known faults, beside the tools that there are.

The corpus (experiments/corpus) holds backward passes of real operations, written by hand, each right or with one fault
whose cause was written down beforehand.  Every tool judges every case in every dtype the case is meant for:

  check        functional_dl.check.check_vjp;
  check_vjp    jax.test_util.check_vjp with its default tolerances of the dtype, reverse mode against differences;
  chex         chex.assert_numerical_grads of a jax.custom_vjp that holds the pass, first order, reverse mode alone;
  gradcheck    torch.autograd.gradcheck of a function that holds it, where PyTorch is installed.

Detection is the share of wrong cases refused, a false alarm is a right one refused.  Only the first tool names causes:
each named cause is held against the label.
"""

import importlib.util
import time
import warnings
from collections import Counter
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import test_util

from experiments.corpus import CORPUS
from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl import check

ALONE = True  # it measures times
CLAIM = (
    "check_vjp refuses at least 99 % of the wrong backward passes in float64, 97 % in float32 and 90 % in bfloat16 and "
    "less than one right pass in a thousand, and names the cause first in four of five and the argument in 98 of 100."
)
SUITE = "standard"  # a sample that fits into a quick suite is too small to decide how often a cause is named
DTYPES = ("float64", "float32", "bfloat16")
DETECTION = {"float64": 0.99, "float32": 0.97, "bfloat16": 0.90}


@dataclass(frozen=True)
class Config:
    """Settings of the checker experiment."""

    every: int = 1
    """Every n-th case of the corpus is judged."""
    others: bool = True
    """Whether the other tools judge the cases too."""
    entries: int = 1_000_000
    """Entries of the function that is timed."""

    def __post_init__(self):
        settings.at_least(self, 1, "every", "entries")


QUICK = Config(every=40, others=False)
STANDARD = Config(every=10, others=False)
SMOKE = Config(every=120, others=False, entries=1000)


def run(config: Config) -> Result:
    cases = [*CORPUS.wrong[:: config.every], *CORPUS.right[:: config.every]]
    tools = {"check": _ours} | (_others() if config.others else {})
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in DTYPES:
            with jax.enable_x64(dtype == "float64"):
                rows += [
                    _judge(case, dtype, tools)
                    for case in progress.over(cases, f"cases, {dtype}")
                    if dtype in case.dtypes
                ]
    seconds = _time_of_large(config.entries)
    return _result(rows, tools, seconds, config)


def _judge(case, dtype, tools) -> dict:
    row = {"case": case.name, "dtype": dtype, "cause": case.cause, "also": list(case.also), "wrong": dict(case.wrong)}
    for name, tool in tools.items():
        primals = case.primals(dtype)
        start = time.perf_counter()
        row |= {f"{name}_{key}": value for key, value in tool(*case.built(), primals).items()}
        row[f"{name}_seconds"] = time.perf_counter() - start
    return row


def _ours(fun, fun_vjp, primals) -> dict:
    findings = check.check_vjp(fun, fun_vjp, *primals).findings
    return {
        "refused": bool(findings),
        "named": {f.argument: f.cause for f in findings},
        "candidates": {f.argument: list(f.candidates) for f in findings},
    }


def _refusal(call) -> dict:
    """Whether a tool refuses; None where it cannot judge the case (no such dtype, no such function)."""
    try:
        call()
    except AssertionError:
        return {"refused": True}
    except Exception as error:
        # a result of the wrong form is refused by an error of another kind; so is what the tool cannot run at all
        return {"refused": True, "error": type(error).__name__}
    return {"refused": False}


def _others() -> dict:
    def of_jax(fun, fun_vjp, primals):
        return _refusal(lambda: test_util.check_vjp(fun, fun_vjp, primals))

    def of_chex(fun, fun_vjp, primals):
        @jax.custom_vjp
        def wrapped(*args):
            return fun(*args)

        wrapped.defvjp(lambda *args: (fun_vjp(*args)[0], args), lambda args, ct: tuple(fun_vjp(*args)[1](ct)))
        return _refusal(lambda: chex.assert_numerical_grads(wrapped, primals, order=1, modes=["rev"]))

    tools = {"check_vjp": of_jax, "chex": of_chex}
    if importlib.util.find_spec("torch") is not None:
        tools["gradcheck"] = _of_torch
    return tools


def _of_torch(fun, fun_vjp, primals) -> dict:
    import torch  # pyright: ignore[reportMissingImports]

    leaves, tree = jax.tree.flatten(primals)

    def arrays(tensors):
        return jax.tree.unflatten(tree, [jnp.asarray(t.detach().numpy()) for t in tensors])

    class Held(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.args = arrays(tensors)
            return torch.from_numpy(np.array(fun(*ctx.args)))

        @staticmethod
        def backward(ctx, ct):
            bars = fun_vjp(*ctx.args)[1](jnp.asarray(ct.detach().numpy()))
            given = []
            for bar, primal in zip(bars, ctx.args):
                count = len(jax.tree.leaves(primal))
                given += [None] * count if bar is None else jax.tree.leaves(bar, is_leaf=lambda x: x is None)
            return tuple(None if bar is None else torch.from_numpy(np.array(bar)) for bar in given)

    tensors = [torch.from_numpy(np.array(x)) for x in leaves]
    tensors = [t.requires_grad_() if t.is_floating_point() or t.is_complex() else t for t in tensors]
    return _refusal(lambda: torch.autograd.gradcheck(Held.apply, tensors))


def _time_of_large(entries: int) -> float:
    """Seconds of a check of a function of many entries, the second of its kind: JAX has compiled the parts."""
    x = jnp.linspace(-3, 3, entries, dtype=jnp.float32)

    def fun(x):
        return jnp.tanh(x)

    def fun_vjp(x):
        y = jnp.tanh(x)
        return y, lambda ct: (ct * (1 - y * y),)

    for _ in range(2):
        start = time.perf_counter()
        report = check.check_vjp(fun, fun_vjp, x)
        seconds = time.perf_counter() - start
    assert report.passed, report
    return seconds


# ---- figures -------------------------------------------------------------------------------------------


def _rate(rows, tool, wrong: bool) -> float:
    chosen = [row[f"{tool}_refused"] for row in rows if bool(row["cause"]) == wrong]
    return sum(chosen) / len(chosen) if chosen else float("nan")


def _naming(rows) -> dict:
    """Shares of the refused wrong cases: first cause right, right among three, arguments right; and with the further
    labels of the case allowed."""
    found = [row for row in rows if row["cause"] and row["check_refused"]]
    first = three = argument = defensible = 0
    for row in found:
        argument += set(row["check_named"]) == set(row["wrong"])
        shared = [path for path in row["check_named"] if path in row["wrong"]]
        if shared:
            path, label = shared[0], row["wrong"][shared[0]]
            first += row["check_named"][path] == label
            three += label in row["check_candidates"][path]
            defensible += row["check_named"][path] in (label, *row["also"])
    count = max(len(found), 1)
    return {
        "first": first / count,
        "three": three / count,
        "argument": argument / count,
        "defensible": defensible / count,
    }


def confusion(rows) -> np.ndarray:
    """How often each cause (row) got each name (column), one count a refused case; the last column is not refused."""
    place = {cause: i for i, cause in enumerate(check.CAUSES)}
    counts = np.zeros((len(place), len(place) + 1))
    for row in rows:
        if not row["cause"]:
            continue
        shared = [path for path in row["check_named"] if path in row["wrong"]] or list(row["check_named"])
        column = place[row["check_named"][shared[0]]] if shared else len(place)
        label = row["wrong"].get(shared[0], row["cause"]) if shared else row["cause"]
        counts[place[label], column] += 1
    return counts


def _result(rows, tools, seconds, config) -> Result:
    by = {dtype: [row for row in rows if row["dtype"] == dtype] for dtype in DTYPES}
    naming = _naming(rows)
    alarms = _rate(rows, "check", wrong=False)
    checks = [
        Check(f"{dtype}: at least {100 * least:g} % of the wrong passes are refused",
              f"{100 * _rate(by[dtype], 'check', True):.4g} %", _rate(by[dtype], "check", True) >= least)
        for dtype, least in DETECTION.items()
    ]  # fmt: skip
    checks += [
        Check("at most one right pass in a thousand is refused", f"{1000 * alarms:.3g} in 1000", alarms <= 1e-3),
        Check("the first cause is the label: 80 %", f"{100 * naming['first']:.3g} %", naming["first"] >= 0.8),
        Check("the label is among three: 95 %", f"{100 * naming['three']:.3g} %", naming["three"] >= 0.95),
        Check("the arguments are right: 98 %", f"{100 * naming['argument']:.3g} %", naming["argument"] >= 0.98),
        Check(f"{config.entries:,} entries: less than 5 s after compilation", f"{seconds:.2g} s", seconds < 5),
    ]
    counts = Counter(row["cause"] or "right" for row in rows)
    numbers = {
        "cases": f"{len({row['case'] for row in rows})}, judged {len(rows)} times",
        "first cause right, or another defensible label": f"{100 * naming['defensible']:.3g} %",
        "cases of each cause": ", ".join(f"{cause} {n}" for cause, n in sorted(counts.items())),
    }
    table = [
        [tool, dtype, 100 * _rate(by[dtype], tool, True), 100 * _rate(by[dtype], tool, False),
         float(np.mean([row[f"{tool}_seconds"] for row in by[dtype]] or [np.nan]))]
        for tool in tools for dtype in DTYPES
    ]  # fmt: skip
    matrix = confusion(rows)
    metrics = [{"part": "case"} | row for row in rows] + [
        {"part": "confusion", "cause": cause, "named": name, "count": matrix[i, j]}
        for i, cause in enumerate(check.CAUSES)
        for j, name in enumerate((*check.CAUSES, "not refused"))
        if matrix[i, j]
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers,
        metrics=metrics,
        timed=(checks[-1].statement, *(f"{tool}_seconds" for tool in tools)),
        table=Table(["tool", "dtype", "wrong passes refused, %", "right passes refused, %", "seconds a case"], table),
        curves={"confusion": matrix},
    )


def plot(result: Result) -> list[Picture]:
    counts = result.curves["confusion"]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = style.figure(9, 8)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts):
        axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", fontsize=6,
                  color="white" if shares[i, j] > 0.6 else "black")  # fmt: skip
    axes.set_xticks(range(counts.shape[1]), (*check.CAUSES, "not refused"), rotation=90, fontsize=7)
    axes.set_yticks(range(counts.shape[0]), check.CAUSES, fontsize=7)
    axes.set(xlabel="named", ylabel="label")
    axes.grid(visible=False)
    return [
        Picture("confusion", "How often each cause (row) got each name (column), all dtypes together: what lies off "
                "the diagonal is confused, the last column was not noticed.", figure)
    ]  # fmt: skip
