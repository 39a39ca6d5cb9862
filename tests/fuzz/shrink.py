"""A smaller program with the same fault."""

from collections.abc import Callable, Iterator

import jax

from tests.fuzz.program import Program, Step, Type, arguments, function, reads, without_dead_steps


def shrunk(program: Program, fails: Callable[[Program], bool], most: int = 400) -> Program:
    """The program with what may go taken away, as long as it still fails, in at most so many trials."""
    trials = 0
    better = True
    while better:
        better = False
        for candidate in candidates(program):
            trials += 1
            if trials > most:
                return program
            if fails(candidate):
                program, better = candidate, True
                break
    return program


def candidates(program: Program) -> Iterator[Program]:
    """Smaller programs: fewer outputs, a step's result made an input, a body's steps in place of the step."""
    if len(program.outputs) > 1:
        for name in program.outputs:
            yield without_dead_steps(program._replace(outputs=(name,)))
    kinds = types(program)
    for i, step in enumerate(program.steps[:-1]):  # the last one is an output's
        if all(name in kinds for name in step.outs):
            yield without_dead_inputs(_as_input(program, i, kinds))
    for i, step in enumerate(program.steps):
        for name in step.operands:  # pass an operand on in place of the result
            if len(step.outs) == 1 and kinds.get(name) == kinds.get(step.outs[0]):
                yield without_dead_inputs(_renamed(program, i, name))
        for k, body in enumerate(step.bodies):
            for smaller in smaller_bodies(body):
                bodies = (*step.bodies[:k], smaller, *step.bodies[k + 1 :])
                steps = (*program.steps[:i], step._replace(bodies=bodies), *program.steps[i + 1 :])
                yield without_dead_inputs(program._replace(steps=steps))
    tail = [step for step in program.steps if not set(step.outs) & set(program.outputs)]
    for step in reversed(tail):  # an earlier value as the output
        if len(step.outs) == 1 and kinds.get(step.outs[0], Type((), "int32")).dtype != "int32":
            yield without_dead_inputs(program._replace(outputs=(step.outs[0],)))


def smaller_bodies(body: Program) -> Iterator[Program]:
    """Bodies without one of their steps, whose result becomes an operand or an input of the same position."""
    for i, step in enumerate(body.steps):
        for name in step.operands:
            if len(step.outs) == 1:
                yield _renamed(body, i, name)
        for k, inner in enumerate(step.bodies):
            for smaller in smaller_bodies(inner):
                bodies = (*step.bodies[:k], smaller, *step.bodies[k + 1 :])
                yield body._replace(steps=(*body.steps[:i], step._replace(bodies=bodies), *body.steps[i + 1 :]))


def types(program: Program) -> dict[str, Type]:
    """The types of the inputs and of the steps' results, those of bodies left out."""
    names = [name for step in program.steps for name in step.outs]
    outs = jax.eval_shape(function(program._replace(outputs=tuple(names))), *arguments(program))
    return dict(program.inputs) | {name: Type(y.shape, y.dtype.name) for name, y in zip(names, outs)}


def _as_input(program: Program, i: int, kinds) -> Program:
    step = program.steps[i]
    inputs = dict(program.inputs) | {name: kinds[name] for name in step.outs}
    return program._replace(inputs=inputs, steps=program.steps[:i] + program.steps[i + 1 :])


def _renamed(program: Program, i: int, name: str) -> Program:
    """Without step i, whose result is replaced by the value `name`."""
    old = program.steps[i].outs[0]

    def new(names):
        return tuple(name if n == old else n for n in names)

    def rename(step: Step) -> Step:
        bodies = tuple(b._replace(steps=tuple(map(rename, b.steps)), outputs=new(b.outputs)) for b in step.bodies)
        return step._replace(operands=new(step.operands), bodies=bodies)

    steps = tuple(rename(step) for step in program.steps[:i] + program.steps[i + 1 :])
    return program._replace(steps=steps, outputs=new(program.outputs))


def without_dead_inputs(program: Program) -> Program:
    program = without_dead_steps(program)
    used = reads(program)
    return program._replace(inputs={name: kind for name, kind in program.inputs.items() if name in used})
