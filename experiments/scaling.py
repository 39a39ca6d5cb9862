"""One run on 1 to 8 devices: the same losses, a share of the memory, and what travels between the devices.

A perceptron is trained on the digits with Adam, in float64 so that rounding does not hide a difference: on one device;
with its batch split over 2, 4 and 8 virtual devices and its parameters on each (data parallel); with parameters and
Adam's moments split over them too (fully sharded); and on 2 x 2 and 2 x 4 devices with the hidden layers' units split
over the second axis (tensor parallel).  On meshes of Auto axes and of Explicit ones.

What travels is read from the compiled step.  With P bytes of parameters on n devices a ring sends 2 P (n - 1) / n bytes
from each device for the all-reduce of the data parallel gradient, whatever the batch; fully sharded, the parameters are
gathered and the gradient is summed over the devices: P (n - 1) / n more.  So the bytes of a device do not grow with n,
while its share of the computation, batch / n examples, shrinks: n devices pay as long as batch / n examples take longer
to compute than 2 P bytes to send.  With 400 TFLOP/s, 6 operations a parameter and example, and 50 GB/s between devices,
bfloat16 parameters take as long to send as 5,000 examples (tokens, in a language model) to compute: each of 10^4
devices needs that many a step, a batch of 5 * 10^7.  That batch, larger than what still helps the optimiser, is the
limit of this way to split; beyond it stands the mean time between failures of 10^4 devices against that between
checkpoints.

`--processes 2` rehearses the same on two processes that share their devices over the loopback, with checkpoints; one of
them is killed on the way, a supervisor starts both again, and the run goes on from the newest checkpoint.
"""

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, PartitionSpec

from experiments.framework import progress, settings, style
from experiments.framework.processes import supervised
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl import losses, models, training

CLAIM = (
    "A run split over up to 8 devices has the losses of one device to 1e-6; data parallel it needs one all-reduce a "
    "step, fully sharded each device holds its share of parameters and optimiser to 10 %."
)
SUITE = "full"
TOLERANCE = 1e-6
SIZES = {"f64": 8, "f32": 4, "s64": 8, "u64": 8, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "u8": 1, "s8": 1}


@dataclass(frozen=True)
class Config:
    """Settings of the scaling experiment."""

    hidden: int = 64
    """Units of each of the two hidden layers."""
    batch_size: int = 64
    """Digits a step."""
    steps: int = 100
    """Updates."""
    processes: int = 1
    """Processes on this machine; with 2 one of them is killed on the way."""

    def __post_init__(self):
        settings.at_least(self, 1, "steps", "processes")
        if self.hidden % 8 or self.batch_size % 8:
            raise ValueError(f"hidden, batch_size: expected multiples of 8, got {self.hidden}, {self.batch_size}")


SMOKE = Config(hidden=8, batch_size=8, steps=2)


def run(config: Config) -> Result:
    task = {"hidden": config.hidden, "batch_size": config.batch_size, "steps": config.steps}
    progress.part("8 virtual devices")
    rows, _ = supervised("experiments.scaling:measure", task, devices=8)
    alone = rows[0]
    off = {row["name"]: _off(row["losses"], alone["losses"]) for row in rows[1:]}
    data, split = ([row for row in rows if row["kind"] == kind] for kind in ("data parallel", "fully sharded"))
    shares = {row["name"]: row["bytes"] * row["devices"] / alone["bytes"] for row in split}
    checks = [
        Check(f"losses on several devices: within {TOLERANCE:g} of one device's", f"at most {max(off.values()):.1e}",
              max(off.values()) <= TOLERANCE),
        Check("data parallel: one all-reduce a step and nothing else",
              ", ".join(sorted({_listed(row["collectives"]) for row in data})),
              all(_counts(row["collectives"]) == {"all-reduce": 1} for row in data)),
        Check("fully sharded: each device's share of the state is 1/n of it, to 10 %",
              f"at most {max(shares.values()):.3f} / n", max(shares.values()) <= 1.1),
    ]  # fmt: skip
    numbers = {
        "bytes of parameters and Adam's moments": alone["bytes"],
        "the same on each of 8 devices, fully sharded": min(row["bytes"] for row in split),
        "bytes that each device puts into the all-reduce": max(c["bytes"] for row in data for c in row["collectives"]),
    }
    if config.processes > 1:
        several = _on_processes(config, task, alone["losses"])
        checks += several["checks"]
        numbers |= several["numbers"]
    table = Table(
        ["run", "devices", "axes", "bytes a device", "collectives a step", "bytes in them", "largest difference"],
        [[row["kind"], row["devices"], row["axes"], row["bytes"], _listed(row["collectives"]) or "none",
          sum(c["bytes"] for c in row["collectives"]), f"{off.get(row['name'], 0.0):.1e}"] for row in rows],
    )  # fmt: skip
    metrics = [{key: value for key, value in row.items() if key != "losses"} | {"final loss": row["losses"][-1]}
               for row in rows]  # fmt: skip
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers,
        metrics=metrics,
        table=table,
        curves={"rows": rows, "config": config},
    )


def _off(found, expected) -> float:
    return float(np.max(np.abs(np.array(found) / np.array(expected) - 1)))


def _counts(collectives) -> dict[str, int]:
    kinds = [c["kind"] for c in collectives]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _listed(collectives) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in _counts(collectives).items())


# ---- in a process of its own ---------------------------------------------------------------------------


def _problem(hidden: int):
    """(loss, params, data): digits by a perceptron with two hidden layers, float64."""
    from sklearn.datasets import load_digits

    jax.config.update("jax_enable_x64", True)
    digits = load_digits()
    network = models.mlp((64, hidden, hidden, 10), "relu", dtype=jnp.float64)
    x, y = digits.data / 16, np.eye(10)[digits.target]
    loss = lambda params, batch: jnp.mean(losses.softmax_cross_entropy(network.apply(params, batch[0]), batch[1]))
    return loss, network.init(jax.random.key(0)), (x, y)


def _runs(params):
    """(kind, devices, mesh shape, axis names, placement) for each way to split the run."""
    columns = lambda name, leaf: PartitionSpec(*[None] * (leaf.ndim - 1), "units") if leaf.shape[-1] > 10 else whole
    whole = PartitionSpec()
    yield from (("data parallel", (n,), ("data",), "replicated") for n in (2, 4, 8))
    yield from (("fully sharded", (n,), ("data",), "fully_sharded") for n in (2, 4, 8))
    yield from (("tensor parallel", (2, n), ("data", "units"), columns) for n in (2, 4))


def measure(hidden: int, batch_size: int, steps: int) -> list[dict]:
    """Each way to split the run: its losses, the bytes of a device, what travels in a step."""
    loss, params, data = _problem(hidden)
    optimizer, key = optax.adam(1e-3), jax.random.key(1)
    given: dict[str, Any] = dict(steps=steps, batch_size=batch_size, key=key, progress=False, report_every=steps)
    fit = training.fit(loss, params, data, optimizer, **given)
    rows = [_row("one device", 1, "", fit, [])]
    for axes in (AxisType.Auto, AxisType.Explicit):
        for kind, shape, names, placement in _runs(params):
            count = int(np.prod(shape))
            mesh = jax.make_mesh(shape, names, axis_types=(axes,) * len(names), devices=jax.devices()[:count])
            how: dict[str, Any] = dict(mesh=mesh, placement=placement, batch_axes="data")
            fit = training.fit(loss, params, data, optimizer, **given, **how)
            rows.append(_row(kind, count, axes.name, fit, _collectives(loss, params, data, optimizer, batch_size, how)))
    return rows


def _row(kind, devices, axes, fit, collectives) -> dict:
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves((fit.params, fit.opt_state)))
    name = f"{kind}, {devices} devices {axes}"
    return {"name": name, "kind": kind, "devices": devices, "axes": axes, "bytes": held, "collectives": collectives,
            "losses": fit.history["loss"].tolist()}  # fmt: skip


def _collectives(loss, params, data, optimizer, batch_size, how) -> list[dict]:
    """The collective operations of one compiled step, with the bytes of their results on a device."""
    from functional_dl.training import step
    from functional_dl.training.layout import Layout

    layout = Layout(how["mesh"], how["placement"], how["batch_axes"])
    state = step.start(params, optimizer, jax.random.key(1), None, batch_size)
    state = layout.placed(state, layout.state_specs(state))
    batch = jax.device_put(jax.tree.map(lambda leaf: leaf[:batch_size], data), layout.batch_sharding(0))
    update = step.make_update(loss, optimizer, layout=layout)
    with layout.current():
        text = jax.jit(update).lower(state, batch).compile().as_text() or ""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text)
    return [{"kind": kind, "bytes": _bytes(shapes)} for shapes, kind in found]


def _bytes(shapes: str) -> int:
    found = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes)
    return sum(SIZES[kind] * int(np.prod([int(n) for n in axes.split(",") if n])) for kind, axes in found)


# ---- several processes ---------------------------------------------------------------------------------


def train(hidden: int, batch_size: int, steps: int, checkpoint_dir: str) -> list[float]:
    """Losses of the data parallel run over all processes' devices, from the newest checkpoint on."""
    loss, params, data = _problem(hidden)
    fit = training.fit(
        loss, params, data, optax.adam(1e-3), steps=steps, batch_size=batch_size, key=jax.random.key(1), progress=False,
        mesh=jax.make_mesh((jax.device_count(),), ("data",)), checkpoint_dir=checkpoint_dir, resume=True,
        report_every=max(1, steps // 20), checkpoint_every=max(1, steps // 10),
    )  # fmt: skip
    return fit.history["loss"].tolist()


def _on_processes(config: Config, task: dict, expected) -> dict:
    with tempfile.TemporaryDirectory() as folder:

        def kill_one(running):
            while not list(Path(folder).glob("step_*")) and all(process.poll() is None for process in running):
                time.sleep(0.01)
            running[-1].kill()

        found, restarts = supervised(
            "experiments.scaling:train", task | {"checkpoint_dir": folder}, processes=config.processes, watch=kill_one
        )
    off = _off(found, expected)
    return {
        "checks": [
            Check(f"{config.processes} processes, one killed on the way: within {TOLERANCE:g} of one device's losses",
                  f"{off:.1e}, started again {restarts} times", off <= TOLERANCE),
        ],
        "numbers": {"restarts by the supervisor": restarts},
    }  # fmt: skip


# ---- pictures ------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    rows: list[Mapping] = [row for row in result.curves["rows"] if row["axes"] in ("", "Auto")]
    return [_memory(rows), _losses(rows)]


COLORS = {"data parallel": style.BLUE, "fully sharded": style.RED, "tensor parallel": style.GREEN}


def _memory(rows) -> Picture:
    figure = style.figure(10.0)
    left, right = figure.subplots(1, 2)
    alone = rows[0]["bytes"]
    for kind, color in COLORS.items():
        chosen = [row for row in rows if row["kind"] == kind]
        n = [row["devices"] for row in chosen]
        left.plot(n, [row["bytes"] / 2**20 for row in chosen], "o-", color=color, label=kind)
        travels = [sum(c["bytes"] for c in row["collectives"]) / 2**20 for row in chosen]
        right.plot(n, travels, "o-", color=color, label=kind)
    ideal = np.array([1, 2, 4, 8])
    left.plot(ideal, alone / ideal / 2**20, "k:", label="a share of 1/n")
    for axes, what in ((left, "Parameters and Adam's moments"), (right, "Results of a step's collectives")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ideal, ideal.astype(str))
        axes.set_xlabel("devices")
        axes.set_title(what)
        axes.set_ylabel("MiB a device")
        axes.set_ylim(bottom=0)
        axes.legend()
    return Picture(
        "memory", "What each device holds, and what it takes part in sending, by the number of devices.", figure
    )


def _losses(rows) -> Picture:
    figure = style.figure()
    axes = figure.subplots()
    expected = np.array(rows[0]["losses"])
    for row in rows[1:]:
        off = np.abs(np.array(row["losses"]) / expected - 1)
        axes.semilogy(np.maximum(off, 1e-17), color=COLORS[row["kind"]], alpha=0.4 + 0.07 * row["devices"], lw=1)
    for kind, color in COLORS.items():
        axes.plot([], [], color=color, label=kind)
    axes.axhline(TOLERANCE, color="k", ls=":", label="what is claimed")
    axes.set_xlabel("step")
    axes.set_title("Losses against one device's")
    axes.set_ylabel("relative difference")
    axes.legend()
    return Picture("losses", "Losses on several devices against those on one: rounding, far below the claim.", figure)
