"""Running an experiment: its settings, its result, its files, the page."""

import dataclasses
import io
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import matplotlib

from experiments.framework import environment, fingerprint, page, progress, store, style
from experiments.framework.registry import Experiment
from experiments.framework.result import Result


def run(experiment: Experiment, config, results: Path, mark: dict[str, Any] | None = None, show: bool = True) -> Result:
    """Runs the experiment, writes results/NAME/ and, if `show`, the pages.

    The result notes what it was made with: `mark`, or the fingerprint of the experiment and the config.

    It runs under JAX's default settings whatever the session's are, so that its numbers depend on the config alone;
    an experiment asks for float64 where its claim is about float64.
    """
    began, used = time.perf_counter(), time.process_time()
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = experiment.module.run(config)
        progress.part("pictures")
        pictures, images = _pictures(experiment, result)
    summary = _summary(experiment, began) | {
        "process_seconds": round(time.process_time() - used, 2),
        "claim": result.claim,
        "status": "done",
        "made_with": fingerprint.of(experiment.path, config) if mark is None else mark,
        "timed": list(result.timed),
        "verdict": result.verdict,
        "checks": [dataclasses.asdict(check) for check in result.checks],
        "numbers": dict(result.numbers),
        "table": {"columns": result.table.columns, "rows": result.table.rows},
        "pictures": pictures,
        "pages": list(result.pages),
    }
    files = _settings(experiment, config) | {
        "metrics.jsonl": store.to_json_lines(result.metrics),
        "table.csv": store.to_csv(result.table),
        "result.json": store.to_json(summary),
    }
    files |= {name: text.encode() for name, text in result.pages.items()}
    files |= images
    store.write_directory(results, experiment.name, files)
    if show:
        page.write(results)
    return result


def record_failure(experiment: Experiment, config, results: Path, error: Exception, began: float) -> None:
    """A run that raised is shown on the page as such, with its traceback beside it."""
    trace = "".join(traceback.format_exception(error))
    summary = _summary(experiment, began) | {
        "claim": experiment.claim,
        "status": "failed",
        "verdict": False,
        "error": f"{type(error).__name__}: {error}",
    }
    files = _settings(experiment, config) | {"result.json": store.to_json(summary), "traceback.txt": trace.encode()}
    store.write_directory(results, experiment.name, files)


def _summary(experiment: Experiment, began: float) -> dict:
    return {
        "name": experiment.name,
        "about": experiment.about,
        "seconds": round(time.perf_counter() - began, 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _settings(experiment: Experiment, config) -> dict[str, bytes]:
    content = {
        "experiment": experiment.name,
        "settings": {} if config is None else dataclasses.asdict(config),
        "environment": environment.describe(),
    }
    return {"config.json": store.to_json(content)}


def _pictures(experiment: Experiment, result: Result) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """(What result.json says of each picture, the files: PNG for light and for dark pages, and PDF)."""
    said, files = [], {}
    with matplotlib.rc_context(style.RC):
        for picture in experiment.module.plot(result):
            names = {"file": f"{picture.name}.png", "dark": f"{picture.name}.dark.png", "pdf": f"{picture.name}.pdf"}
            said.append(names | {"caption": picture.caption})
            files[names["file"]] = _saved(picture.figure, format="png")
            files[names["pdf"]] = _saved(picture.figure, format="pdf", metadata={"CreationDate": None})
            style.darken(picture.figure)
            files[names["dark"]] = _saved(picture.figure, format="png", facecolor=style.DARK)
    return said, files


def _saved(figure, **options) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()
