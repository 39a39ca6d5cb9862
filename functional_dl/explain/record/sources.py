"""Where in the user's program an equation stands: frames, statements, scopes."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import jax
import jaxlib
from jax.extend.source_info_util import current_name_stack

from functional_dl import jaxprs

_HERE = Path(__file__).resolve().parents[1]  # this room
_JAX, _STANDARD = (f"{path}{os.sep}" for path in (Path(jax.__file__).parent, sysconfig.get_paths()["stdlib"]))
_JAXLIB, _OWN, _REVERSE = (
    f"{path}{os.sep}" for path in (Path(str(jaxlib.__file__)).parent, _HERE, _HERE.parent / "reverse")
)
_NETWORKS = tuple(f"{_HERE.parent / room}{os.sep}" for room in ("models", "layers"))
_INSTALLED = tuple(
    f"{path}{os.sep}"
    for path in {
        *site.getsitepackages(),
        site.getusersitepackages(),
        sysconfig.get_paths()["purelib"],
        *(path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")),
    }
)
LIBRARY = "library"  # marks a group that is a function of JAX's own
_NAMELESS = {"__call__", "<lambda>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>"}


@dataclass(frozen=True)
class Frame:
    """A call in progress: which function, at which line.

    Fields:
      file, function, line: where.
      call: tells this call of the function from others; None where nobody knows.
      library: the function is one of jax.nn, whose name says more than what it does step by step.
      module: where it is a method of a framework's module, that module's path in the one that calls it; of another
        callable object's call, the class.
      kinds: names of the module's classes.
      hidden: the file is a framework's: its lines are no part of the user's program.
    """

    file: str
    function: str
    line: int
    call: int | None = None
    library: bool = False
    module: str = ""
    kinds: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def place(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


@functools.cache
def is_users(file: str) -> bool:
    """Whether a file is neither JAX's, nor Python's, nor a framework's, nor of the machinery here."""
    if file.startswith(("<frozen", _JAX, _JAXLIB, _OWN, _REVERSE)) or file == jaxprs.__file__:
        return False
    if file.startswith(_INSTALLED):
        return not is_frameworks(file)
    return not file.startswith(_STANDARD)


@functools.cache
def is_frameworks(file: str) -> bool:
    """Whether a file belongs to an installed package of layers, as Flax and Equinox: one with a class `Module`."""
    inside = next((file.removeprefix(folder) for folder in _INSTALLED if file.startswith(folder)), "")
    package = inside.split(os.sep)[0]
    loaded = [module for name, module in [*sys.modules.items()] if name.split(".")[0] == package] if inside else []
    classes = [getattr(module, "__dict__", {}).get("Module") for module in loaded]
    return any(isinstance(c, type) and c.__module__.split(".")[0] == package for c in classes)


def _is_module(kind: type) -> bool:
    """Whether a class is a framework's kind of layer (and no part of the framework's own machinery)."""
    private = kind.__module__.split(".")[1:2]
    return any(base.__name__ == "Module" for base in kind.__mro__) and not (private and private[0].startswith("_"))


def live_frames(stop: CodeType, kept: list[Any]) -> tuple[Frame, ...]:
    """The user's frames (and those of jax.nn, and of modules) from the innermost to the one that the function with code
    `stop` called.

    Args:
      kept: a list that keeps the frame objects alive, so that no two calls share an identity.
    """
    found: list[tuple[FrameType, Any]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        file = frame.f_code.co_filename
        if _is_nn(frame.f_code) or is_users(file) or is_frameworks(file):
            kept.append(frame)
            found.append((frame, _module_of(frame)))
        frame = frame.f_back
    frames: list[Frame] = []
    outer: Any = None
    for frame, module in reversed(found):
        code, name, kinds = frame.f_code, "", ()
        if module is not None:
            kinds = tuple(kind.__name__ for kind in type(module).__mro__)
            name, outer = ("" if module is outer else _place_in(outer, module)), module
        elif code.co_name == "__call__":
            name = code.co_qualname.split(".")[-2]
        hidden = is_frameworks(code.co_filename)
        frames.append(
            Frame(code.co_filename, code.co_name, frame.f_lineno, id(frame), _is_nn(code), name, kinds, hidden)
        )
    return tuple(reversed(frames))


def _is_nn(code: CodeType) -> bool:
    return code.co_filename.startswith(_JAX) and "/nn/" in code.co_filename and not code.co_name.startswith("_")


def _module_of(frame: FrameType) -> Any:
    """The module whose method a frame runs; None if it runs none."""
    code = frame.f_code
    if not (code.co_argcount and code.co_varnames[0] == "self"):
        return None
    owner = frame.f_locals.get("self")
    return owner if _is_module(type(owner)) else None


def _place_in(outer: Any, module: Any, most: int = 10_000) -> str:
    """The path of a module in another one, as "layers/0"; its own name, or its class's, where it is nowhere in it."""
    level: list[tuple[str, Any]] = [("", outer)]
    seen: set[int] = set()
    while level and outer is not None and len(seen) < most:
        below = []
        for path, holder in level:
            for name, part in _parts(holder):
                place = f"{path}/{name}" if path else str(name)
                if part is module:
                    return place
                if id(part) not in seen and _parts(part):
                    seen.add(id(part))
                    below.append((place, part))
        level = below
    name = getattr(module, "name", None)
    return name if isinstance(name, str) and name else type(module).__name__


def _parts(holder: Any) -> list[tuple[Any, Any]]:
    if isinstance(holder, dict):
        return list(holder.items())
    if isinstance(holder, list | tuple):
        return list(enumerate(holder))
    return list(vars(holder).items()) if _is_module(type(holder)) or type(holder).__name__ == "List" else []


def staged_frames(source_info: Any, function: str, file: str) -> tuple[Frame, ...]:
    """The user's frames of a jaxpr's equation (and those of modules), from the innermost to the function that was
    traced (it included)."""
    traceback = getattr(source_info, "traceback", None)
    found = []
    for frame in getattr(traceback, "frames", ()):
        hidden = is_frameworks(frame.file_name)
        if not (hidden or is_users(frame.file_name)):
            continue
        *_, kind, name = ["", *frame.function_name.split(".")]
        named = (name == "__call__" and not hidden) or _names_module(frame.file_name, kind)
        module = kind if named else ""
        found.append(
            Frame(frame.file_name, name, frame.line_num, None, False, module, (kind,) if module else (), hidden)
        )
        if name == function and frame.file_name == file:
            return tuple(found)
    return tuple(found[:1]) if not function else ()


@functools.cache
def _names_module(file: str, name: str) -> bool:
    """Whether a file defines a class of modules with this name."""
    loaded = [module for module in [*sys.modules.values()] if getattr(module, "__file__", None) == file]
    kinds = [getattr(module, name, None) for module in loaded] if name else []
    return any(isinstance(kind, type) and _is_module(kind) for kind in kinds)


def scopes(source_info: Any = None) -> tuple[str, ...]:
    """The names of jax.named_scope around an equation (or around here), outermost first."""
    stack = current_name_stack() if source_info is None else getattr(source_info, "name_stack", "")
    return jaxprs.scopes_of(stack)


def text(frame: Frame) -> str:
    """The line of a frame, without its indentation."""
    return linecache.getline(frame.file, frame.line).strip()


@functools.cache
def _tree(file: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return None


@functools.cache
def statement(file: str, line: int) -> ast.stmt | None:
    """The innermost statement that a line belongs to; of compound statements only their heads count."""
    found = None
    for node in ast.walk(_tree(file) or ast.Module([], [])):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body = getattr(node, "body", None)
            if body and line >= body[0].lineno and not isinstance(body, ast.expr):
                continue
            if found is None or node.lineno >= found.lineno:
                found = node
    return found


def targets(frame: Frame) -> tuple[str, ...]:
    """The variables that the statement at a frame's line assigns to: ("h",) for h = tanh(z); () if it is none such."""
    node = statement(frame.file, frame.line)
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        target = node.target
    else:
        return ()
    return tuple(n.id if isinstance(n, ast.Name) and n.id != "_" else "" for n in _flat(target))


def _flat(target: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        return [name for part in target.elts for name in _flat(part)]
    return [target]


def returns(frame: Frame) -> bool:
    """Whether the statement at a frame's line is a return."""
    return isinstance(statement(frame.file, frame.line), ast.Return)


@functools.cache
def enclosing_scopes(file: str, line: int, function: str) -> int:
    """How many names the `with jax.named_scope(...)` or `with layer_path(...)` around a line in its function give."""
    count = 0
    tree = _tree(file)
    if tree is None:
        return 0
    start = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first, last = node.lineno, node.end_lineno or node.lineno
            if first <= line <= last:
                start = max(start, first)
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and start <= node.lineno < line <= (node.end_lineno or node.lineno):
            count += sum(_names_given(item.context_expr) for item in node.items)
    return count


def _names_given(context: ast.expr) -> int:
    """How many names a context manager puts around equations: one, or as many as the name it is given has parts."""
    if not isinstance(context, ast.Call) or not ast.unparse(context.func).endswith(("named_scope", "layer_path")):
        return 0
    name = context.args[0] if context.args else None
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
    return len(jaxprs.scopes_of(text))


def is_networks(file: str, inside: bool) -> bool:
    """Whether a file holds networks, of whose functions the paths of their layers say more than the names.

    Args:
      inside: the function was called in a scope; then those of a layer's file need no name either.
    """
    return file.startswith(_NETWORKS if inside else _NETWORKS[:1])


def path(frames: tuple[Frame, ...], names: tuple[str, ...], inside: bool = False) -> list[tuple[str, Any]]:
    """Scopes and functions around an equation, outermost first, each with what tells it from others of its name.

    A network's own functions are left out: of it the paths of its layers are shown.

    A framework's module has its path in the module that calls it, or the scope that the framework gives it.

    Args:
      frames: innermost first; the outermost one is the function itself, which is not named.
      names: scopes, outermost first.
      inside: there are scopes around the function itself.
    """
    counts = [0 if f.library else enclosing_scopes(f.file, f.line, f.function) for f in reversed(frames)]
    known = {kind for f in frames for kind in f.kinds}
    told = any(name.rsplit(".", 1)[-1] not in known for name in names)  # the framework's scopes are the modules' paths
    placed = [f for f in frames if f.module and not (f.module in names or (told and f.call is None))]
    classes = {kind for f in placed for kind in f.kinds}
    left = [name for name in names if name.rsplit(".", 1)[-1] not in classes]  # a layer's class says less than its path
    parts: list[tuple[str, Any]] = []
    for level, (frame, count) in enumerate(zip(reversed(frames), counts)):
        inside = inside or len(left) < len(names)
        before = frames[len(frames) - level] if level else frame
        call = frame.call if frame.call is not None else (before.file, before.line)
        if frame in placed:
            parts.append((frame.module, call))
        elif level and not frame.hidden and frame.function not in _NAMELESS and not is_networks(frame.file, inside):
            parts.append((frame.function, (LIBRARY, call) if frame.library else call))
        for _ in range(count):
            scope = left.pop(0) if left else ""
            again = frame.hidden and parts[-1:] == [(scope, None)]
            parts += [] if again or not scope else [(scope, None)]
    known = {name for name, _ in parts}
    return [*parts, *[(name, None) for name in left if name not in known]]  # entered by what no source line shows
