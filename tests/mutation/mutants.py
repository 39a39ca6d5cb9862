"""Mutants of the rules: each differs from a function of functional_dl/reverse/rules by one small mistake.

A mutant is made on the syntax tree: a sign or a factor is wrong, operands are swapped, a term, a sum, a conjugate or a
condition is dropped or turned round, the output is taken for the primal, a number is off by one.  The functions are the
rules and the functions of the same file that they call; and all functions and methods of the files that no rule of the
table stands in (WITHOUT_RULES), which tests by hand alone judge.
"""

import ast
import contextlib
import copy
import dataclasses
import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from functional_dl import reverse
from functional_dl.reverse import rule as table
from functional_dl.reverse import sweep
from tests.mutation.silent import silent_changes

PACKAGE = "functional_dl.reverse.rules"
WITHOUT_RULES = {
    **{name: f"{PACKAGE}.{name}" for name in ("foreign", "libraries")},
    **{name: f"functional_dl.reverse.{name}" for name in ("budget", "layout", "residuals")},
}
SWAPPED = {"sub", "div", "pow", "atan2", "rem", "dot_general", "matmul", "complex", "dot", "nextafter"}
REPLACED = {
    "add": "sub",
    "sub": "add",
    "mul": "div",
    "div": "mul",
    "sin": "cos",
    "cos": "sin",
    "max": "min",
    "min": "max",
    "lt": "ge",
    "ge": "lt",
    "gt": "le",
    "le": "gt",
    "eq": "ne",
    "ne": "eq",
    "plus": "minus",
    "minus": "plus",
    "triu": "tril",
    "tril": "triu",
    "real": "imag",
}
DROPPED = {
    "neg",
    "conj",
    "unbroadcast",
    "argsort",
    "square",
    "rev",
    "transpose",
    "hermitian",
    "adjoint",
    "log",
    "exp",
    "sqrt",
}
TERMS = {"add", "mul"}
KEPT_DECORATORS = {"cache", "cached_property"}  # the others register
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.MatMult: ast.Mult}
COMPARISONS = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARISONS |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}


class Mutant(NamedTuple):
    """One mistake: `number` counts those of the function."""

    module: str
    function: str
    number: int
    line: int
    change: str
    tree: ast.FunctionDef

    @property
    def name(self) -> str:
        return f"{self.module}.{self.function}:{self.number}"

    @property
    def digest(self) -> str:
        """Of the function with its mistake, wherever it stands in the file."""
        return hashlib.sha256(f"{self.module} {ast.dump(self.tree)}".encode()).hexdigest()[:16]


def families() -> list[str]:
    rules = {path.stem for path in Path(importlib.import_module(PACKAGE).__file__).parent.glob("[a-z]*.py")}
    return sorted(rules | set(WITHOUT_RULES))


def module_of(family: str):
    return importlib.import_module(WITHOUT_RULES.get(family, f"{PACKAGE}.{family}"))


def _functions(family: str) -> dict[str, ast.FunctionDef]:
    """The file's functions by their names; of a file without rules also the methods of its classes, `Class.method`."""
    tree = ast.parse(inspect.getsource(module_of(family)))
    nodes = [inner for node in tree.body for inner in (node.body if isinstance(node, ast.If) else [node])]
    found = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    if family in WITHOUT_RULES:
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{f.name}": f for f in node.body if isinstance(f, ast.FunctionDef)}
    return found


def rules_of(family: str, function: str) -> list[table.Rule]:
    """The rules that are this function."""
    module = f"{PACKAGE}.{family}"
    return [
        rule
        for rule in reverse.RULES.values()
        if any(
            f is not None and f.__module__ == module and f.__name__ == function for f in (rule.formula, rule.forward)
        )
    ]


def users(family: str) -> dict[str, list[table.Rule]]:
    """The functions to mutate -> the rules that call them, by way of functions of the same file."""
    functions = _functions(family)
    if family in WITHOUT_RULES:
        return {name: [] for name in functions}
    names = {
        f: {n.id for n in ast.walk(body(node)) if isinstance(n, ast.Name)} & set(functions)
        for f, node in functions.items()
    }
    found: dict[str, list[table.Rule]] = {}
    for function in functions:
        rules, reached, pending = rules_of(family, function), set(), [function]
        while rules and pending:
            name = pending.pop()
            if name not in reached:
                reached.add(name)
                pending += names[name]
        for name in reached:
            found.setdefault(name, []).extend(rules)
    return found


def body(node: ast.FunctionDef) -> ast.Module:
    """The statements without decorators and docstring, and without what only raises."""
    statements = node.body[1:] if ast.get_docstring(node) else node.body
    return ast.Module([s for s in statements if not _refuses(s)], [])


def _refuses(statement) -> bool:
    return isinstance(statement, ast.If) and len(statement.body) == 1 and isinstance(statement.body[0], ast.Raise)


def called(node) -> str:
    """The last part of the name of what is called: `sub` for lax.sub(x, y)."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def mistakes(node: ast.AST, parameters: list[str]) -> Iterator[tuple[str, ast.AST]]:
    """What may stand in place of an expression or statement, and how to call it."""
    if isinstance(node, ast.Call):
        name, args = called(node), node.args
        if name in SWAPPED and len(args) >= 2 and ast.dump(args[0]) != ast.dump(args[1]):
            yield f"{name}: operands swapped", _with(node, args=[args[1], args[0], *args[2:]])
        if name in ("select", "where") and len(args) == 3:
            yield f"{name}: mask inverted", _with(node, args=[args[0], args[2], args[1]])
            yield f"{name}: mask dropped", args[1]
        if name in REPLACED and len(args) >= 1:
            field = "attr" if isinstance(node.func, ast.Attribute) else "id"
            yield f"{name} -> {REPLACED[name]}", _with(node, func=_with(node.func, **{field: REPLACED[name]}))
        if name in DROPPED and args:
            yield f"{name} dropped", args[0]
        if name in TERMS and len(args) == 2:
            yield f"{name}: second operand dropped", args[0]
            yield f"{name}: first operand dropped", args[1]
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield "operator", _with(node, op=OPERATORS[type(node.op)]())
        if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult)):
            yield "operands swapped", _with(node, left=node.right, right=node.left)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield "sign or negation dropped", node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield "comparison turned round", _with(node, ops=[COMPARISONS[type(node.ops[0])]()])
    elif isinstance(node, ast.BoolOp):
        yield "and <-> or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{node.value} -> {node.value + 1}", ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"{node.value} -> {not node.value}", ast.Constant(not node.value)
    elif (
        isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and len(parameters) >= 3
        and parameters[1] == "out"
    ):
        if node.id == "out":
            yield f"out -> {parameters[2]}", ast.Name(parameters[2], ast.Load())
        elif node.id == parameters[2]:
            yield f"{node.id} -> out", ast.Name("out", ast.Load())
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and parameters[:1] in (["ct"], ["cts"]):
        bars = node.value.elts
        for i, bar in enumerate(bars):
            if isinstance(bar, ast.Starred) or (isinstance(bar, ast.Constant) and bar.value is None):
                continue
            for factor in (-1, (2, 0.5)[i % 2]):
                scaled = ast.Call(ast.Name("__scaled", ast.Load()), [bar, ast.Constant(factor)], [])
                yield (
                    f"cotangent {i} times {factor}",
                    _with(node, value=ast.Tuple([*bars[:i], scaled, *bars[i + 1 :]], ast.Load())),
                )
            yield (
                f"cotangent {i} dropped",
                _with(node, value=ast.Tuple([*bars[:i], ast.Constant(None), *bars[i + 1 :]], ast.Load())),
            )


def _with(node, **fields):
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def mutants(family: str) -> Iterator[Mutant]:
    """All mutants of a file, in order."""
    functions = _functions(family)
    flags = {k: v for k, v in vars(module_of(family)).items() if type(v) is bool}
    for name in sorted(users(family), key=lambda name: functions[name].lineno):
        node = functions[name]
        parameters = [a.arg for a in node.args.args]
        one_type = parameters[1:2] == ["out"] and _keeps_the_type(family, name)
        unread = one_type and all(map(_reads_no_values, rules_of(family, name)))
        silent, number = silent_changes(node, one_type, unread, flags), 0
        for place in ast.walk(body(node)):
            for change, replacement in mistakes(place, parameters):
                if (id(place), "") in silent or (id(place), change) in silent:
                    continue
                yield Mutant(
                    family,
                    name,
                    number,
                    getattr(place, "lineno", node.lineno),
                    change,
                    _replaced(node, place, replacement),
                )
                number += 1


@functools.cache
def _keeps_the_type(family: str, function: str) -> bool:
    """Whether the rules are of functions whose output has the type of their first operand, by their nature.

    That is so of functions that act entry by entry, if it is so of every probe, and of scatters.
    """
    rules = rules_of(family, function)
    if rules and all(rule.primitive.name.startswith("scatter") for rule in rules):
        return True
    probes = [probe for rule in rules for probe in rule.probes]
    if not probes or not all(rule.probes[0].elementwise for rule in rules):
        return False
    if any(len(probe.shapes) != 1 for probe in probes):
        return False
    operands = [(probe.fun, jax.ShapeDtypeStruct(probe.shapes[0], d)) for probe in probes for d in probe.dtypes]
    outputs = [(jax.eval_shape(fun, x), x) for fun, x in operands]
    return all((out.shape, out.dtype) == (x.shape, x.dtype) for out, x in outputs)


def _reads_no_values(rule: table.Rule) -> bool:
    """Of `out` and the first primal the formula sees the types alone."""
    return not any(any(mask[:2]) for mask in rule.reads)


def _replaced(node, place, replacement) -> ast.FunctionDef:
    """A copy of the function with `replacement` where `place` is; both trees share what does not change."""

    def rebuilt(current):
        if current is place:
            return replacement
        if isinstance(current, list):
            return [rebuilt(x) for x in current]
        if isinstance(current, ast.AST):
            return _with(current, **{name: rebuilt(value) for name, value in ast.iter_fields(current)})
        return current

    kept = [d for d in node.decorator_list if getattr(d, "attr", getattr(d, "id", "")) in KEPT_DECORATORS]
    return ast.fix_missing_locations(_with(rebuilt(node), decorator_list=kept))


def scaled(bar, factor):
    """A cotangent times a number; it may be a thunk or None."""
    if bar is None:
        return None
    if callable(bar):
        return lambda: scaled(bar(), factor)
    return bar * bar.dtype.type(factor)


@contextlib.contextmanager
def planted(mutant: Mutant):
    """Within the context the rules of the table that use the function use the mutant, and so does whoever holds it."""
    module = module_of(mutant.module)
    holder, _, name = mutant.function.rpartition(".")
    owner = getattr(module, holder) if holder else module
    found: dict = {}
    module.__dict__["__scaled"] = scaled
    exec(compile(ast.Module([mutant.tree], []), f"<{mutant.name}>", "exec"), module.__dict__, found)
    function = found[name]
    original, replaced = vars(owner)[name], {}
    if hasattr(function, "__set_name__"):
        function.__set_name__(owner, name)
    for rule in rules_of(mutant.module, mutant.function):
        replaced[rule.primitive] = rule
        if rule.forward is None:
            changed = dataclasses.replace(rule, formula=function, vjp=table.evaluated(function))
        else:
            changed = dataclasses.replace(rule, forward=function)
        reverse.PRIMITIVES[rule.primitive] = changed
    _put(owner, name, original, function)
    _forget(module)
    try:
        yield
    finally:
        _put(owner, name, function, original)
        reverse.PRIMITIVES.update(replaced)
        del module.__dict__["__scaled"]
        _forget(module)


def _put(owner, name, old, new) -> None:
    """`new` where `old` was: in its place, in the modules that imported it, and in their lists and tables."""
    setattr(owner, name, new)
    for key, module in tuple(sys.modules.items()):
        if not key.startswith("functional_dl.reverse"):
            continue
        for attribute, value in tuple(vars(module).items()):
            if value is old:
                setattr(module, attribute, new)
            elif isinstance(value, dict | list) and attribute != "__builtins__":
                places = value if isinstance(value, dict) else range(len(value))
                for place in [p for p in places if value[p] is old]:
                    value[place] = new


def _forget(module) -> None:
    """What was computed with another function of the module is not taken for this one's."""
    sweep._compiled_forward.cache_clear()
    for value in tuple(vars(module).values()):
        if hasattr(value, "cache_clear") and getattr(value, "__module__", "") == module.__name__:
            value.cache_clear()
    getattr(module, "_known", {}).clear()
