"""How a search ended: one list for all methods of the room."""

from enum import IntEnum


class Status(IntEnum):
    """How a search ended.  Compiled programs return the number; Status(int(number)) is the member.

    CONVERGED: to the tolerance asked for; INFEASIBLE: nothing satisfies the constraints, as far as the method can tell;
    UNBOUNDED: the objective falls without end; STUCK: no step helps, and the conditions do not hold; LIMIT: so many
    iterations were not enough; PLATEAU: nothing changes near the point, but farther away; NOT_A_MINIMUM: the
    conditions of first order hold, and lower points were found; NOT_FINITE: values that are not finite at the start.
    """

    CONVERGED = 0
    INFEASIBLE = 1
    UNBOUNDED = 2
    STUCK = 3
    LIMIT = 4
    PLATEAU = 5
    NOT_A_MINIMUM = 6
    NOT_FINITE = 7
