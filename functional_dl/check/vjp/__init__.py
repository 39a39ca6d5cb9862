"""Checking a backward pass, stage by stage."""

from functional_dl.check.vjp.api import assert_grads, assert_vjp, check_custom_vjp, check_grads, check_vjp

__all__ = ["assert_grads", "assert_vjp", "check_custom_vjp", "check_grads", "check_vjp"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
