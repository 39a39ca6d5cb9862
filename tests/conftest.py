"""Strict set-up: float64 is on, dtype promotion is strict, rank promotion raises, warnings are errors.

A test of float32 (or lower) makes its arrays in that dtype; strict promotion then holds every formula to it.

The tests compile some ten thousand small programs and run each once, so XLA is told not to optimise them: a quarter of
the time.  What XLA's optimisations do to a program is measured by the experiments, which run with its own defaults.
"""

import os
from importlib.metadata import version

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
]
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # later versions know no other way

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])  # the caller's come last, and win

import jax  # noqa: E402  (after the flags, which it reads)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


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
