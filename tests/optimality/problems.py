"""Problems with known optima: Hock and Schittkowski 1981, "Test examples for nonlinear programming codes"."""

from tests.optimality import hs_1_to_25, hs_26_to_56, hs_57_to_81, hs_83_to_100, hs_101_to_118

KNOWN = [
    *hs_1_to_25.PROBLEMS,
    *hs_26_to_56.PROBLEMS,
    *hs_57_to_81.PROBLEMS,
    *hs_83_to_100.PROBLEMS,
    *hs_101_to_118.PROBLEMS,
]
