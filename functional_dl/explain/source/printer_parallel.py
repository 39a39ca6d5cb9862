"""Source of programs on many devices."""

from __future__ import annotations

from collections.abc import Callable

from functional_dl.explain.source.literals import Source, show
from functional_dl.explain.source.printer import Line, printers
from functional_dl.jaxprs import open_jaxpr


def _spec(spec) -> str:
    parts = [show(tuple(p) if isinstance(p, list) else p) for p in spec.partitions]
    for kind in ("reduced", "unreduced"):
        if axes := getattr(spec, kind):
            parts.append(f"{kind}=frozenset({{{', '.join(show(a) for a in sorted(axes))}}})")
    return f"jax.sharding.PartitionSpec({', '.join(parts)})"


def _specs(specs) -> str:
    return f"({', '.join(_spec(s) for s in specs)},)"


def _shard_map(line: Line) -> str:
    p, names = line.params, line.printer.names
    mesh = p["mesh"]
    kinds = ", ".join(f"jax.sharding.AxisType.{kind.name}" for kind in mesh.axis_types)
    place = names.new("mesh")
    sizes, axes = show(tuple(mesh.axis_sizes)), show(tuple(mesh.axis_names))
    line.block.add(f"{place} = jax.make_mesh({sizes}, {axes}, axis_types=({kinds},))")
    function = names.new("on_each_device")
    own = [names.new("z") for _ in line.atoms]
    block = line.block.function(f"def {function}({', '.join(own)}):")
    consts = [line.printer.hold(c, line.block) for c in open_jaxpr(p["jaxpr"])[1]]
    results = line.printer.program(p["jaxpr"], consts, own, block)
    block.add(f"return ({', '.join(results)},)" if len(results) == 1 else f"return ({', '.join(results)})")
    manual = p.get("newly_manual_axes") or mesh.axis_names
    some = set(manual) != set(mesh.axis_names)
    axes = f", axis_names={{{', '.join(show(a) for a in sorted(manual))}}}" if some else ""
    mapped = names.new("mapped")
    line.block.add(
        f"{mapped} = jax.shard_map({function}, mesh={place}, in_specs={_specs(p['in_specs'])}, "
        f"out_specs={_specs(p['out_specs'])}{axes}, check_vma={p['check_vma']})"
    )
    return f"{mapped}({', '.join(line.args)})"


def _axes(line: Line) -> str:
    names = line.params.get("axes", line.params.get("axis_name"))
    return show(tuple(names) if isinstance(names, tuple | list) else (names,))


def _sum(line: Line) -> str:
    return line.call("lax.psum", _axes(line), axis_index_groups=line.params.get("axis_index_groups"))


def _gather(line: Line, **to: Source) -> str:
    p = line.params
    return line.call("lax.all_gather", _axes(line), axis=p["all_gather_dimension"], tiled=p["tiled"], **to)


def _cast(kind: str) -> Callable[[Line], str]:
    return lambda line: line.call("lax.pcast", _axes(line), to=Source(f'"{kind}"'))


def _scatter(line: Line) -> str:
    p = line.params
    return line.call("lax.psum_scatter", _axes(line), scatter_dimension=p["scatter_dimension"], tiled=p["tiled"])


def _all_to_all(line: Line) -> str:
    p = line.params
    return line.call(
        "lax.all_to_all", _axes(line), split_axis=p["split_axis"], concat_axis=p["concat_axis"], tiled=p["tiled"]
    )


def _permute(line: Line) -> str:
    pairs = tuple(tuple(pair) for pair in line.params["perm"])
    return line.call("lax.ppermute", _axes(line), perm=pairs)


printers(
    shard_map=_shard_map,
    psum=_sum,
    psum_invariant=_sum,
    unreduced_psum=_sum,
    pvary=_cast("varying"),
    reduced_vary_cast_p=_cast("varying"),
    vary_unreduced_cast_p=_cast("unreduced"),
    preduced=_cast("reduced"),
    ppermute=_permute,
    all_gather=_gather,
    all_gather_reduced=lambda line: _gather(line, to=Source('"reduced"')),
    all_gather_invariant=lambda line: _gather(line, to=Source('"invarying"')),
    reduce_scatter=_scatter,
    unreduced_reduce_scatter=_scatter,
    all_to_all=_all_to_all,
    axis_index=lambda line: f"lax.axis_index({_axes(line)})",
)
