"""Programs that once told two answers apart, shrunk, each with what it found.  The default tests replay them."""

from tests.fuzz.program import Program, Step, Type

MATRIX = Type((3, 3), "float64")
COMPLEX = Type((3, 3), "complex128")

# what it found -> the program
CASES = {
    "JAX refuses a checkpoint that keeps complex numbers (reduce_precision); reverse does not": Program(
        {"x": COMPLEX},
        (
            Step(
                ("y",),
                "checkpoint",
                ("x",),
                {"policy": "everything"},
                (Program({"u": COMPLEX}, (Step(("v",), "complex_sin", ("u",)),), ("v",)),),
            ),
        ),
        ("y",),
    ),
    "the evaluator took a reshape of moved axes for a plain one": Program(
        {"x": Type((2, 3, 3), "float64")}, (Step(("y",), "prod", ("x",), {"axes": (0, 2)}),), ("y",)
    ),
    "KeyError in a loop with an invariant step of whose results the rest reads the second": Program(
        {"x": Type((2, 3, 3), "float64"), "w": Type((3,), "float64")},
        (
            Step(
                ("s", "y"),
                "scan",
                ("x",),
                {"reverse": False, "unroll": 1},
                (
                    Program(
                        {"state": Type((2, 3, 3), "float64")},
                        (
                            Step(
                                ("a", "b"),
                                "scan",
                                ("w",),
                                {"reverse": True, "unroll": 1},
                                (Program({"u": Type((3,), "float64")}, (), ("w", "w")),),
                            ),
                            Step(("next",), "like", ("state", "b")),
                        ),
                        ("next", "a"),
                    ),
                ),
            ),
        ),
        ("y",),
    ),
    "values of a loop's derivative were taken for tangents, in which a user's primitive is linear": Program(
        {"x": MATRIX},
        (
            Step(
                ("y",),
                "custom_jvp",
                ("x",),
                {},
                (
                    Program(
                        {"u": MATRIX},
                        (
                            Step(
                                ("a",),
                                "fori_loop",
                                ("u",),
                                {"steps": 3},
                                (Program({"z": MATRIX}, (Step(("b",), "like", ("z", "u")),), ("b",)),),
                            ),
                            Step(("p", "q"), "own_polar", ("a", "u")),
                        ),
                        ("q",),
                    ),
                ),
            ),
        ),
        ("y",),
    ),
    "loops under vmap that end after different numbers of steps": Program(
        {"x": MATRIX},
        (
            Step(
                ("y",),
                "vmap",
                ("x",),
                {},
                (
                    Program(
                        {"r": Type((3,), "float64")},
                        (
                            Step(
                                ("s",),
                                "while_loop",
                                ("r",),
                                {"limit": 2.0, "most": 4},
                                (Program({"z": Type((3,), "float64")}, (Step(("a",), "plus_one", ("z",)),), ("a",)),),
                            ),
                        ),
                        ("s",),
                    ),
                ),
            ),
        ),
        ("y",),
    ),
    "differences by steps too wide for a program that bends": Program(
        inputs={"v0": Type(shape=(2, 3, 3), dtype="float64")},
        steps=(
            Step(outs=("v1",), op="floor", operands=("v0",), params={}, bodies=()),
            Step(outs=("v2",), op="argmax_scale", operands=("v1",), params={}, bodies=()),
            Step(
                outs=("v4",),
                op="dot_general",
                operands=("v2", "v1"),
                params={"numbers": (((1,), (2,)), ((0,), (0,)))},
                bodies=(),
            ),
            Step(outs=("v5",), op="erf", operands=("v4",), params={}, bodies=()),
            Step(
                outs=("v10",),
                op="dot_general",
                operands=("v5", "v2"),
                params={"numbers": (((0, 2), (0, 1)), ((), ()))},
                bodies=(),
            ),
            Step(outs=("v11",), op="sin", operands=("v10",), params={}, bodies=()),
            Step(outs=("v12",), op="pow", operands=("v11", "v11"), params={}, bodies=()),
            Step(outs=("v13",), op="sum", operands=("v12",), params={"axes": (0, 1)}, bodies=()),
            Step(outs=("v20",), op="gather", operands=("v11",), params={"rows": (1, 1, 0)}, bodies=()),
            Step(outs=("v21",), op="sum", operands=("v20",), params={"axes": (1,)}, bodies=()),
        ),
        outputs=("v21", "v13"),
    ),
    "the rounding of 1 - tanh^2 near 0 was not measured within a vjp": Program(
        inputs={"v1": Type(shape=(3, 4), dtype="float64")},
        steps=(
            Step(outs=("v7",), op="reduce_max", operands=("v1",), params={"axes": (0, 1)}, bodies=()),
            Step(
                outs=("v16", "v17"),
                op="jit",
                operands=("v7", "v7"),
                params={},
                bodies=(
                    Program(
                        inputs={"v8": Type(shape=(), dtype="float64"), "v9": Type(shape=(), dtype="float64")},
                        steps=(
                            Step(
                                outs=("v14",),
                                op="vjp",
                                operands=("v7", "v9"),
                                params={},
                                bodies=(
                                    Program(
                                        inputs={"v10": Type(shape=(), dtype="float64")},
                                        steps=(
                                            Step(
                                                outs=("v11",), op="mul", operands=("v10", "v10"), params={}, bodies=()
                                            ),
                                            Step(outs=("v12",), op="add", operands=("v7", "v11"), params={}, bodies=()),
                                            Step(outs=("v13",), op="tanh", operands=("v12",), params={}, bodies=()),
                                        ),
                                        outputs=("v13",),
                                    ),
                                ),
                            ),
                        ),
                        outputs=("v14", "v14"),
                    ),
                ),
            ),
        ),
        outputs=("v17",),
    ),
}
