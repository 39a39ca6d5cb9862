"""Programs that once told two answers apart, shrunk, each with what it found.  They are replayed in the default tests."""

from tests.fuzz.program import Program, Step, Type

MATRIX = Type((3, 3), "float64")
COMPLEX = Type((3, 3), "complex128")

# what it found -> the program
CASES = {
    "JAX refuses a checkpoint whose policy keeps complex numbers: it rounds them with reduce_precision; reverse does not": Program(
        {"x": COMPLEX},
        (Step(("y",), "checkpoint", ("x",), {"policy": "everything"}, (Program({"u": COMPLEX}, (Step(("v",), "complex_sin", ("u",)),), ("v",)),)),),
        ("y",),
    ),
    "the evaluator took a reshape of moved axes for a plain one": Program(
        {"x": Type((2, 3, 3), "float64")}, (Step(("y",), "prod", ("x",), {"axes": (0, 2)}),), ("y",)
    ),
    "KeyError: a loop took its invariant equations for those whose first result the rest reads, here it is the second": Program(
        {"x": Type((2, 3, 3), "float64"), "w": Type((3,), "float64")},
        (
            Step(("s", "y"), "scan", ("x",), {"reverse": False, "unroll": 1}, (
                Program({"state": Type((2, 3, 3), "float64")}, (
                    Step(("a", "b"), "scan", ("w",), {"reverse": True, "unroll": 1}, (
                        Program({"u": Type((3,), "float64")}, (), ("w", "w")),
                    )),
                    Step(("next",), "like", ("state", "b")),
                ), ("next", "a")),
            )),
        ),
        ("y",),
    ),
    "loops under vmap that end after different numbers of steps": Program(
        {"x": MATRIX},
        (
            Step(("y",), "vmap", ("x",), {}, (
                Program({"r": Type((3,), "float64")}, (
                    Step(("s",), "while_loop", ("r",), {"limit": 2.0, "most": 4}, (
                        Program({"z": Type((3,), "float64")}, (Step(("a",), "plus_one", ("z",)),), ("a",)),
                    )),
                ), ("s",)),
            )),
        ),
        ("y",),
    ),
}  # fmt: skip
