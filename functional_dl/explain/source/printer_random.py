"""Source of random numbers."""

from __future__ import annotations

from functional_dl.explain.source.literals import dtype_text, show
from functional_dl.explain.source.printer import Line, printers


def _bits(line: Line) -> str:
    p = line.params
    return line.call("jax.random.bits", show(tuple(p["shape"])), f"jnp.uint{p['bit_width']}")


def _gamma(line: Line) -> str:
    name = "loggamma" if line.params["log_space"] else "gamma"
    return f"jax.random.{name}({line.arg(0)}, {line.arg(1)}, dtype={dtype_text(line.out.dtype)})"


printers(
    random_seed=lambda line: f"jax.random.key({line.arg(0)}, impl={show(line.params['impl'].name)})",
    random_wrap=lambda line: f"jax.random.wrap_key_data({line.arg(0)}, impl={show(line.params['impl'].name)})",
    random_unwrap=lambda line: f"jax.random.key_data({line.arg(0)})",
    random_split=lambda line: f"jax.random.split({line.arg(0)}, {show(tuple(line.params['shape']))})",
    random_fold_in=lambda line: f"jax.random.fold_in({line.arg(0)}, {line.arg(1)})",
    random_clone=lambda line: f"jax.random.clone({line.arg(0)})",
    random_bits=_bits,
    random_gamma=_gamma,
)
