"""Source of loops and branches, as inner functions."""

from __future__ import annotations

from typing import Any

from functional_dl.explain.source.literals import show
from functional_dl.explain.source.printer import LONG, Line, printers
from functional_dl.jaxprs import open_jaxpr, scan_sizes, while_parts

STACKED = "_all"  # what a value of each step is called, stacked over the steps


def tuple_of(names: Any) -> str:
    names = list(names)
    return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"


def _consts(line: Line, jaxpr) -> list[str]:
    return [line.printer.hold(c, line.block) for c in open_jaxpr(jaxpr)[1]]


def _unpack(block, names: list[str], source: str) -> None:
    if names:
        block.add(f"{tuple_of(names) if len(names) == 1 else ', '.join(names)} = {source}")


def _scan(line: Line) -> str | None:
    p, printer = line.params, line.printer
    consts, carry = scan_sizes(p, line.texts)
    args = line.args
    step, state, item = (printer.names.new(name) for name in ("step", "state", "item"))
    block = line.block.function(f"def {step}({state}, {item}):")
    hint = printer.hint()
    own = [printer.names.new(name) for name in _wanted(line, consts, carry, hint)]
    _unpack(block, own[:carry], state)
    _unpack(block, own[carry:], item)
    results = printer.program(p["jaxpr"], _consts(line, p["jaxpr"]), [*args[:consts], *own], block, hint=hint)
    block.add(f"return {tuple_of(results[:carry])}, {tuple_of(results[carry:])}")
    for var, result in zip(line.eqn.outvars[carry:], results[carry:]):
        if var not in printer.known and result.isidentifier():
            printer.known[var] = f"{result}{STACKED}"
    options = f", length={p['length']}" + (", reverse=True" if p["reverse"] else "")
    options += f", unroll={show(p['unroll'])}" if p["unroll"] not in (1, False) else ""
    call = f"lax.scan({step}, {tuple_of(args[consts : consts + carry])}, {tuple_of(args[consts + carry :])}{options})"
    return _assign_pair(line, call, carry)


def _wanted(line: Line, consts: int, carry: int, hint) -> list[str]:
    """Names for a step's state and items: those of the user's, else what they are parts of."""
    count = len(open_jaxpr(line.params["jaxpr"])[0].invars) - consts
    if hint is not None and len(hint.arguments) >= count:
        return list(hint.arguments[len(hint.arguments) - count :])
    states = [line.printer.known.get(var, "s") for var in line.eqn.outvars[:carry]]
    items = [
        text.removesuffix(STACKED) if text.endswith(STACKED) else f"{text}_t" for text in line.texts[consts + carry :]
    ]
    return [*[f"{name}_t" for name in states], *[name if name.isidentifier() else "x_t" for name in items]]


def _assign_pair(line: Line, call: str, carry: int) -> str | None:
    """The scan, and names for both parts of its result."""
    names = line.printer.names
    outs = [line.printer.name_of(var) for var in line.eqn.outvars]
    line.outs = outs
    states, items = outs[:carry], outs[carry:]
    if sum(map(len, outs)) <= LONG // 2:
        line.block.add(f"{tuple_of(states)}, {tuple_of(items)} = {call}")
        return None
    first = names.new("states") if carry else "_"
    second = names.new("stacked") if items else "_"
    line.block.add(f"{first}, {second} = {call}")
    _unpack(line.block, states, first)
    _unpack(line.block, items, second)
    return None


def _while(line: Line) -> str:
    p, names = line.params, line.printer.names
    cond_consts, consts, init = while_parts(p, line.args)
    goes_on, step, state = names.new("goes_on"), names.new("step"), names.new("state")
    for function, jaxpr, outer in ((goes_on, p["cond_jaxpr"], cond_consts), (step, p["body_jaxpr"], consts)):
        block = line.block.function(f"def {function}({state}):")
        own = [names.new("s") for _ in init]
        _unpack(block, own, state)
        results = line.printer.program(jaxpr, _consts(line, jaxpr), [*outer, *own], block)
        block.add(f"return {results[0] if function == goes_on else tuple_of(results)}")
    return f"lax.while_loop({goes_on}, {step}, {tuple_of(init)})"


def _cond(line: Line) -> str:
    names, args = line.printer.names, line.args
    functions = []
    for branch in line.params["branches"]:
        function = names.new("branch")
        count = len(args) - 1
        own = [names.new("z") for _ in range(count)]
        block = line.block.function(f"def {function}({', '.join(own)}):")
        results = line.printer.program(branch, _consts(line, branch), own, block)
        block.add(f"return {tuple_of(results)}")
        functions.append(function)
    return f"lax.switch({args[0]}, [{', '.join(functions)}]{''.join(f', {a}' for a in args[1:])})"


def _platform_index(line: Line) -> str:
    """The number of the branch for the platform that runs."""
    chosen = {}
    for number, names in enumerate(line.params["platforms"]):
        chosen |= dict.fromkeys(names or ("default",), f"lambda: jnp.int32({number})")
    return f"lax.platform_dependent({', '.join(f'{name}={index}' for name, index in chosen.items())})"


printers(platform_index=_platform_index, scan=_scan, cond=_cond, **{"while": _while})
