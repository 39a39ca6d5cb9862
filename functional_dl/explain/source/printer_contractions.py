"""Source of products of matrices, convolutions, factorisations, Fourier transforms."""

from __future__ import annotations

from functional_dl.explain.source.literals import Source, dtype_text, show
from functional_dl.explain.source.printer import Line, printers


def _dot(line: Line) -> str:
    p = line.params
    ((left, right), (left_batch, right_batch)) = p["dimension_numbers"]
    a, b = len(line.aval(0).shape), len(line.aval(1).shape)
    simple = not left_batch and p["precision"] is None and _own_dtype(line)
    if simple and tuple(left) == (a - 1,) and tuple(right) == (0,) and b in (1, 2):
        return f"{line.arg(0)} @ {line.arg(1)}"
    if simple and a == b == 2 and tuple(left) == (0,) and tuple(right) == (0,):
        return f"{line.arg(0)}.T @ {line.arg(1)}"
    if simple and b == 2 and tuple(left) == (a - 1,) and tuple(right) == (1,):
        return f"{line.arg(0)} @ {line.arg(1)}.T"
    numbers = ((tuple(left), tuple(right)), (tuple(left_batch), tuple(right_batch)))
    preferred = None if _own_dtype(line) else Source(dtype_text(p["preferred_element_type"]))
    return line.call("lax.dot_general", show(numbers), precision=p["precision"], preferred_element_type=preferred)


def _own_dtype(line: Line) -> bool:
    preferred = line.params["preferred_element_type"]
    return preferred is None or (preferred == line.aval(0).dtype and preferred == line.aval(1).dtype)


def _convolution(line: Line) -> str:
    p = line.params
    numbers = p["dimension_numbers"]
    specs = ", ".join(show(tuple(spec)) for spec in (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec))
    dilations = {name: tuple(p[name]) for name in ("lhs_dilation", "rhs_dilation") if any(d != 1 for d in p[name])}
    groups = {name: p[name] for name in ("feature_group_count", "batch_group_count") if p[name] != 1}
    preferred = p["preferred_element_type"]
    own = preferred is None or preferred == line.aval(0).dtype
    return line.call(
        "lax.conv_general_dilated",
        window_strides=tuple(p["window_strides"]),
        padding=tuple(tuple(pair) for pair in p["padding"]),
        **dilations,
        dimension_numbers=Source(f"lax.ConvDimensionNumbers({specs})"),
        **groups,
        precision=p["precision"],
        preferred_element_type=None if own else Source(dtype_text(preferred)),
    )


def _ragged(line: Line) -> str:
    p = line.params
    numbers = p["ragged_dot_dimension_numbers"]
    dot = numbers.dot_dimension_numbers
    text = show(tuple(tuple(tuple(d) for d in pair) for pair in dot))
    ragged = (
        f"lax.RaggedDotDimensionNumbers({text}, {show(list(numbers.lhs_ragged_dimensions))}, "
        f"{show(list(numbers.rhs_group_dimensions))})"
    )
    preferred = p["preferred_element_type"]
    return line.call(
        "lax.ragged_dot_general",
        ragged,
        precision=p["precision"],
        preferred_element_type=None if preferred is None else Source(dtype_text(preferred)),
    )


def _triangular(line: Line) -> str:
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    return line.call("lax.linalg.triangular_solve", **{n: line.params[n] or None for n in names})


def _eigh(line: Line) -> str:
    p = line.params
    return line.call(
        "lax.linalg.eigh", lower=p["lower"], symmetrize_input=False, sort_eigenvalues=p["sort_eigenvalues"]
    )


def _svd(line: Line) -> str:
    p = line.params
    if not p["compute_uv"]:
        return f"({line.call('lax.linalg.svd', full_matrices=p['full_matrices'], compute_uv=False)},)"
    s, u, v = (line.printer.names.temporary() for _ in range(3))
    line.block.add(f"{u}, {s}, {v} = {line.call('lax.linalg.svd', full_matrices=p['full_matrices'])}")
    return f"{s}, {u}, {v}"


def _eig(line: Line) -> str:
    p = line.params
    return line.call(
        "lax.linalg.eig",
        compute_left_eigenvectors=p["compute_left_eigenvectors"],
        compute_right_eigenvectors=p["compute_right_eigenvectors"],
    )


def _qr(line: Line) -> str:
    p = line.params
    return line.call("lax.linalg.qr", full_matrices=p["full_matrices"], pivoting=p["pivoting"] or None)


def _fft(line: Line) -> str:
    p = line.params
    kind = str(getattr(p["fft_type"], "name", p["fft_type"])).rsplit(".", 1)[-1]
    return line.call("lax.fft", fft_type=kind, fft_lengths=tuple(p["fft_lengths"]))


printers(
    dot_general=_dot,
    conv_general_dilated=_convolution,
    ragged_dot_general=_ragged,
    triangular_solve=_triangular,
    cholesky=lambda line: line.call("lax.linalg.cholesky", symmetrize_input=False),
    lu=lambda line: line.call("lax.linalg.lu"),
    lu_pivots_to_permutation=lambda line: line.call(
        "lax.linalg.lu_pivots_to_permutation", permutation_size=line.params["permutation_size"]
    ),
    qr=_qr,
    eigh=_eigh,
    svd=_svd,
    eig=_eig,
    tridiagonal_solve=lambda line: line.call("lax.linalg.tridiagonal_solve"),
    fft=_fft,
)
