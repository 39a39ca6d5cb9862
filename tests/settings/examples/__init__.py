"""The smallest example of every public function, by "room.function"; ", how" after it names a second one."""

from tests.settings.examples import calculus, derivatives, formulas, networks, optimality

EXAMPLES = formulas.EXAMPLES | networks.EXAMPLES | calculus.EXAMPLES | optimality.EXAMPLES | derivatives.EXAMPLES
