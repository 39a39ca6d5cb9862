"""Tracebacks that show the user's frames, as JAX's do: `jax.config.jax_traceback_filtering` says whether, and how."""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax

F = TypeVar("F", bound=Callable[..., Any])

_HIDDEN = tuple(str(Path(file).parent) + os.sep for file in (__file__, getattr(find_spec("jax"), "origin", "")))
_NOTE = (
    "For simplicity, frames of JAX and of functional_dl.reverse have been removed from this traceback. Set "
    "JAX_TRACEBACK_FILTERING=off to include these."
)


def boundary(fun: F) -> F:
    """fun; the traceback of an exception that leaves it has the frames alone that are not JAX's or this room's."""

    @functools.wraps(fun, assigned=[a for a in functools.WRAPPER_ASSIGNMENTS if hasattr(fun, a)])
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return fun(*args, **kwargs)
        except Exception as error:
            mode = jax.config.jax_traceback_filtering
            if mode != "off" and not _is_inside():
                _shorten(error, mode)
            raise

    return call  # pyright: ignore[reportReturnType]


def _is_inside() -> bool:
    """Whether the boundary that asks lies within another one, whose turn it will be."""
    frame = sys._getframe(1)
    code, frame = frame.f_code, frame.f_back
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def _shorten(error: Exception, mode: Any) -> None:
    frames = list(traceback.walk_tb(error.__traceback__))
    hidden = [frame.f_code.co_filename.startswith(_HIDDEN) for frame, _ in frames]
    if mode == "tracebackhide":
        for (frame, _), h in zip(frames, hidden):
            if h:
                frame.f_locals["__tracebackhide__"] = True
        return
    shown: TracebackType | None = None
    for (frame, line), h in reversed(list(zip(frames, hidden))):
        if not h:
            shown = TracebackType(shown, frame, frame.f_lasti, line)
    error.with_traceback(shown)
    if not any("For simplicity" in note for note in getattr(error, "__notes__", ())):
        error.add_note("--------------------\n" + _NOTE)
