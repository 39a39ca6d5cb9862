"""Strict set-up: float64 is on, dtype promotion is strict, rank promotion raises, warnings are errors.

A test of float32 (or lower) makes its arrays in that dtype; strict promotion then holds every formula to it.

The tests compile thousands of small programs and run each once, so XLA is told not to optimise them, nor to compile one
in parts: half of the time.  What XLA's optimisations do to a program is measured by the experiments, which run with its
own defaults.

What was compiled is kept in `.cache/`, for the next run and for the processes that tests start; it may be deleted at
any time.  `JAX_COMPILATION_CACHE_DIR` names another place, `JAX_ENABLE_COMPILATION_CACHE=0` does without.
"""

import functools
import gc
import hashlib
import os
from collections import Counter
from importlib.metadata import version
from pathlib import Path

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",  # a small program in parts costs half as much again to compile
]
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # later versions know no other way

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two workers share two cores: threads of a small matrix product would wait for each other (an SVD of 60 x 60: 17 times
# as long).  Before NumPy is loaded, which reads it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The caller's come last, and win.  Each stands once, also in the workers, whose caller is this file: what was compiled
# is found again under the same flags alone.
GIVEN = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in FLAGS if flag not in GIVEN), *GIVEN])

# Numbered by what a compiled program depends on, so that what an update leaves behind can be told and deleted.
KEPT = f"{version('jaxlib')}-{hashlib.sha256(os.environ['XLA_FLAGS'].encode()).hexdigest()[:8]}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "xla" / KEPT))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# A program runs for less time than it takes to hand it to another thread, or to note its lines' places.
os.environ.setdefault("JAX_CPU_ENABLE_ASYNC_DISPATCH", "0")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# XLA's own caches are of GPUs' programs, and their path would be a part of each program's key: what was compiled in one
# clone would not be found in another.
os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")

import jax  # noqa: E402  (after the flags, which it reads)
from jax.interpreters import mlir  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# JAX makes an MLIR context for each program, in 4 ms, and it keeps a megabyte for as long as the program is kept: a
# third of the time that a small program takes, and most of the memory.  Here all are lowered in one context.
mlir.make_ir_context.__globals__["make_ir_context"] = functools.cache(mlir.make_ir_context)


def pytest_configure(config):
    """Another worker may be writing the program that this one looks for: then it is compiled once more, no error.

    Programs of the campaign are not kept: there are too many, and the next campaign is after the next changes.
    """
    if config.option.markexpr == "campaign":
        jax.config.update("jax_enable_compilation_cache", False)
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache:UserWarning")


def pytest_collection_modifyitems(items):
    """Of a test marked `sampled(n)` one case in n runs by default; the others are the campaign's.

    The longest tests, those of the settings, come first: at the end one worker would wait for the other's.
    """
    counted: Counter = Counter()
    for item in items:
        if (mark := item.get_closest_marker("sampled")) is not None:
            place = item.path, item.originalname
            if counted[place] % mark.args[0]:
                item.add_marker("campaign")
            counted[place] += 1
    items.sort(key=lambda item: "tests/settings/" not in item.path.as_posix())


def pytest_collection_finish():
    """Traced programs are made of many short-lived objects: garbage is looked for less often."""
    gc.set_threshold(20_000, 20, 20)
    _keep()


LOWERED = [0]  # programs since the caches were emptied
MANY = 4_000


def _count(event, duration, **_):
    LOWERED[0] += event == "/jax/core/compile/jaxpr_to_mlir_module_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


def pytest_runtest_teardown(item, nextitem):
    """What was compiled is let go once it is much, a gigabyte: other files find the small programs that all share."""
    room = "settings" in item.path.parts  # there a test is a room, and compiles as much as a file elsewhere
    if nextitem is not None and (room or nextitem.path != item.path):
        if LOWERED[0] >= MANY:
            LOWERED[0] = 0
            gc.unfreeze()
            jax.clear_caches()
        _keep()


def _keep():
    """What is there now stays: no garbage is looked for among it."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """A test may count its cases, `record_property("cases", n)`; the run's sum is printed at its end."""
    counted = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "cases"
    ]
    if counted:
        terminalreporter.write_line(f"{sum(counted)} cases in {len(counted)} tests")
