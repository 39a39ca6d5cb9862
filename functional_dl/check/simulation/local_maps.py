"""The derivatives of a program's equations as matrices, and its backward sweep with some of them replaced, in NumPy.

For programs of small values: no fault that is tried has to be compiled.  A complex number counts as two real ones.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations
from functional_dl.check.function import jit
from functional_dl.check.numeric import numbers, real_ct, unreal_ct
from functional_dl.check.simulation.fault import Fault, push_forward
from functional_dl.jaxprs import Unstructured, frozen

LARGEST = 400_000  # entries of one matrix, at most
TOGETHER = 6_000_000  # of all
BATCH = 20_000_000  # entries of the cotangents of a sweep, at most


def _real(rows: Any) -> np.ndarray:
    """Each row's entries as real numbers: all real parts, then all imaginary ones."""
    flat = np.asarray(rows).reshape(len(rows), -1)
    return np.concatenate([flat.real, flat.imag], 1) if np.iscomplexobj(flat) else flat


def _units(x: np.ndarray) -> np.ndarray:
    """One row for each real number in x: a tangent that moves it alone."""
    eye = np.eye(x.size).reshape(-1, *x.shape)
    return np.concatenate([eye, 1j * eye]) if np.iscomplexobj(x) else eye


class LocalMaps:
    """The matrices of a listed program at a point.

    Attributes:
      program, values: the program and all its values.
      cts: the trials' cotangents of the outputs, as real numbers: one array a trial and output.
      matrices: position of an equation -> its matrix, (real numbers of its outputs, those of its operands).
    """

    program: Any
    values: dict[int, Any]
    cts: list[np.ndarray]
    matrices: dict[int, np.ndarray]

    def __init__(self, program: Any, values: dict[int, Any], cts: Sequence[Sequence[Any]], needed: set[int]) -> None:
        self.program, self.values = program, values
        self.cts = [np.stack([real_ct(c) for c in own]) for own in zip(*cts)]
        self.matrices = self._rights(
            [
                n
                for n, site in enumerate(program.steps)
                if needed.intersection(site.ins) and self._ins(n) and self._outs(n)
            ]
        )

    @staticmethod
    def fits(program: Any, values: dict[int, Any]) -> bool:
        """Whether the matrices are small enough."""
        sizes = [
            sum(numbers(values[i]) for i in site.ins if equations.is_floating(values[i]))
            * sum(numbers(values[i]) for i in site.outs if equations.is_floating(values[i]))
            for site in program.steps
        ]
        return max(sizes, default=0) <= LARGEST and sum(sizes) <= TOGETHER

    def _ins(self, n) -> list[int]:
        """Which operands are floating."""
        return [j for j, i in enumerate(self.program.steps[n].ins) if equations.is_floating(self.values[i])]

    def _outs(self, n) -> list[int]:
        return [o for o, i in enumerate(self.program.steps[n].outs) if equations.is_floating(self.values[i])]

    def _operands(self, n) -> list[Any]:
        return [self.values[i] for i in self.program.steps[n].ins]

    def _rights(self, chosen: list[int]) -> dict[int, np.ndarray]:
        """The matrices of the equations' own derivatives: one program for all, in which those of a kind are mapped."""
        kinds: dict[Any, list[int]] = {}
        for n in chosen:
            kinds.setdefault(self._kind(n), []).append(n)
        groups = list(kinds.values())

        def of_groups(operands, dots):
            found = []
            for (n, *rest), own, dot in zip(groups, operands, dots):
                push = functools.partial(_pushed, _own(self.program.steps[n].fun), places=self._ins(n))
                found.append(jax.vmap(lambda v, dot=dot, push=push: push(operands=v, dots=dot))(own) if rest else
                             push(operands=own, dots=dot))  # fmt: skip
            return found

        operands = [
            [_stacked(rows) for rows in zip(*map(self._operands, members))]
            if members[1:]
            else self._operands(members[0])
            for members in groups
        ]
        outs = jit(of_groups, 0)(operands, [self._dots(n) for n, *_ in groups])
        found = {}
        for members, own in zip(groups, outs):
            own = [np.asarray(out) for out in own] if all(map(equations.is_floating, own)) else list(own)
            for row, n in enumerate(members):
                found[n] = self._flat(n, [out[row] for out in own] if members[1:] else own)
        return found

    def _kind(self, n) -> Any:
        """What equations share that have the same derivative at the same operands."""
        site = self.program.steps[n]
        try:
            kind: Any = (site.name, frozen(site.params)) if site.params else n
            hash(kind)
        except (Unstructured, TypeError):
            kind = n
        return kind, tuple((np.shape(v), str(getattr(v, "dtype", ""))) for v in self._operands(n))

    def _dots(self, n) -> list[np.ndarray]:
        """Tangents of the floating operands: a row for each of their real numbers, which it moves alone."""
        operands, places = self._operands(n), self._ins(n)
        total = sum(numbers(operands[j]) for j in places)
        dots, start = [], 0
        for j in places:
            block = np.zeros((total, *operands[j].shape), operands[j].dtype)
            block[start : start + numbers(operands[j])] = _units(operands[j])
            start += numbers(operands[j])
            dots.append(block)
        return dots

    def _flat(self, n, outs) -> np.ndarray:
        """The matrix, from the tangents of an equation's outputs."""
        found = np.concatenate([_real(outs[o]) for o in self._outs(n)], 1).T
        return np.where(np.isfinite(found), found, 0.0)  # 0 * inf would spoil the entries that do have a derivative

    def fault(self, fault: Fault) -> np.ndarray | None:
        """The matrix of its equation under a fault; None where the equation cannot be given it."""
        n = fault.site
        try:
            found = self._flat(n, _pushed(fault.push, self._operands(n), self._ins(n), self._dots(n)))
        except Exception:  # what an equation says of a fault that is not for it
            return None
        return found if found.shape == self.matrices[n].shape else None

    def bars(
        self, rows: int, edges: dict[tuple[int, int], np.ndarray], faults: dict[int, list[tuple[Any, np.ndarray]]]
    ) -> list[np.ndarray]:
        """The cotangents of the inputs in several sweeps at once: one array an input, (rows, trials, *its shape).

        Args:
          rows: how many sweeps.
          edges: (equation, operand) -> what that use is multiplied by, one number a sweep.
          faults: equation -> which sweeps have which matrix in place of its own.
        """
        largest = max((numbers(v) for v in self.values.values() if equations.is_floating(v)), default=1)
        most = max(1, BATCH // (largest * max(len(self.cts[0]), 1)))
        parts = []
        for start in range(0, rows, most):
            stop = min(start + most, rows)
            own = {
                n: [(np.asarray([r - start for r in chosen if start <= r < stop]), matrix) for chosen, matrix in given]
                for n, given in faults.items()
            }
            parts.append(self._bars(stop - start, {e: w[start:stop] for e, w in edges.items()}, own))
        return [np.concatenate(leaf) for leaf in zip(*parts)]

    def _bars(self, rows, edges, faults):
        cts: dict[int, np.ndarray] = {}
        for name, own in zip(self.program.outputs, self.cts):
            _add(cts, name, np.broadcast_to(own, (rows, *own.shape)))
        for n in reversed(range(len(self.program.steps))):
            site = self.program.steps[n]
            if n not in self.matrices or not any(o in cts for o in site.outs):
                continue
            trials = len(self.cts[0])
            given = np.concatenate(
                [
                    cts[i] if (i := site.outs[o]) in cts else np.zeros((rows, trials, numbers(self.values[i])))
                    for o in self._outs(n)
                ],
                -1,
            )
            pulled = given @ self.matrices[n]
            for chosen, matrix in faults.get(n, ()):
                if len(chosen):
                    pulled[chosen] = given[chosen] @ matrix
            start = 0
            for j in self._ins(n):
                size = numbers(self.values[site.ins[j]])
                bar = pulled[..., start : start + size]
                start += size
                if (n, j) in edges:
                    bar = bar * edges[n, j][:, None, None]
                _add(cts, site.ins[j], bar)
        found = []
        for name in self.program.inputs:
            like = np.asarray(self.values[name])
            bar = cts.get(name, np.zeros((rows, len(self.cts[0]), numbers(like))))
            flat = [unreal_ct(b, like) for b in bar.reshape(-1, numbers(like))]
            found.append(np.array(flat).reshape(*bar.shape[:2], *like.shape))
        return found


def _add(cts, name, ct) -> None:
    cts[name] = cts[name] + ct if name in cts else ct


def _own(fun):
    return lambda operands, dots: push_forward(fun, operands, dots)[1]


def _stacked(rows):
    """The operands of equations of a kind at one place; keys of random numbers are stacked as they are."""
    return np.stack(rows) if all(isinstance(row, np.ndarray | np.generic) for row in rows) else jnp.stack(rows)


def _pushed(push, operands, places, dots):
    """Tangents of the outputs for each row of the tangents of the operands at those places."""

    def one(own):
        full: list[Any] = [None] * len(operands)
        for j, dot in zip(places, own):
            full[j] = dot
        return push(operands, full)

    return jax.vmap(one)(dots)
