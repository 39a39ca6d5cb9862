"""The machine and the versions that a result was made with: bits depend on both."""

import importlib.metadata
import os
import platform

import jax

PACKAGES = ("jax", "jaxlib", "optax", "numpy", "scipy", "scikit-learn", "matplotlib")


def describe() -> dict:
    import functional_dl

    return {
        "functional_dl": functional_dl.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": _cores(),
        "backend": jax.default_backend(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "x64 by default": bool(jax.config.read("jax_enable_x64")),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    """Cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
