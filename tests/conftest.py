"""Strict set-up: float64 is on, dtype promotion is strict, rank promotion raises, warnings are errors.

A test of float32 (or lower) makes its arrays in that dtype; strict promotion then holds every formula to it.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
