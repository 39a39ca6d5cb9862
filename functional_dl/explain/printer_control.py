"""Source of loops and branches, as inner functions."""

from __future__ import annotations

from functional_dl.explain.printer import Line, printers, show
from functional_dl.reverse.trace import open_jaxpr, scan_sizes

LAYOUT = ("jaxpr", "length", "reverse", "unroll")


def tuple_of(names) -> str:
    names = list(names)
    return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"


def _consts(line: Line, jaxpr) -> list[str]:
    return [line.printer.hold(c, line.block) for c in open_jaxpr(jaxpr)[1]]


def _unpack(block, names: list[str], source: str) -> None:
    if names:
        block.add(f"{tuple_of(names) if len(names) == 1 else ', '.join(names)} = {source}")


def _scan(line: Line) -> str:
    p, names = line.params, line.printer.names
    consts, carry = scan_sizes({k: v for k, v in p.items() if k not in LAYOUT}, list(line.texts))
    args = line.args
    step, state, item = names.new("step"), names.new("state"), names.new("item")
    block = line.block.function(f"def {step}({state}, {item}):")
    inputs = open_jaxpr(p["jaxpr"])[0].invars
    wanted = ["s"] * carry + ["x_t"] * (len(inputs) - consts - carry)
    own = [names.new(w) for w in wanted]
    _unpack(block, own[:carry], state)
    _unpack(block, own[carry:], item)
    results = line.printer.program(p["jaxpr"], _consts(line, p["jaxpr"]), [*args[:consts], *own], block)
    block.add(f"return {tuple_of(results[:carry])}, {tuple_of(results[carry:])}")
    options = f", length={p['length']}" + (", reverse=True" if p["reverse"] else "")
    options += f", unroll={show(p['unroll'])}" if p["unroll"] not in (1, False) else ""
    call = f"lax.scan({step}, {tuple_of(args[consts : consts + carry])}, {tuple_of(args[consts + carry :])}{options})"
    return _assign_pair(line, call, carry)


def _assign_pair(line: Line, call: str, carry: int) -> str:
    """Both parts of a scan's result, as one flat tuple."""
    states, items = line.printer.names.temporary(), line.printer.names.temporary()
    line.block.add(f"{states}, {items} = {call}")
    count = len(line.eqn.outvars)
    if carry == count:
        return states
    return items if carry == 0 else f"(*{states}, *{items})"


def _while(line: Line) -> str:
    p, names = line.params, line.printer.names
    args = line.args
    first = p["cond_nconsts"]
    second = first + p["body_nconsts"]
    goes_on, step, state = names.new("goes_on"), names.new("step"), names.new("state")
    count = len(args) - second
    for function, jaxpr, outer in (
        (goes_on, p["cond_jaxpr"], args[:first]),
        (step, p["body_jaxpr"], args[first:second]),
    ):
        block = line.block.function(f"def {function}({state}):")
        own = [names.new("s") for _ in range(count)]
        _unpack(block, own, state)
        results = line.printer.program(jaxpr, _consts(line, jaxpr), [*outer, *own], block)
        block.add(f"return {results[0] if function == goes_on else tuple_of(results)}")
    return f"lax.while_loop({goes_on}, {step}, {tuple_of(args[second:])})"


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


printers(scan=_scan, cond=_cond, **{"while": _while})
