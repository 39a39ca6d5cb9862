"""The pullback multiplies by the Jacobian where its transpose is due."""

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = J ct, of an output with as many entries as the argument: a rotation turned forwards, a sum that runs the
    same way, W for W^T."""
    function = evidence.function
    if (
        len(evidence.outs) != 1
        or evidence.outs[0].size != evidence.x.size
        or evidence.x.size < 2
        or evidence.elementwise
    ):
        return None
    if not function.traceable or evidence.outs[0].dtype != evidence.x.dtype:
        return None
    guesses = []
    for trial in evidence.trials:
        tangent = trial.cts[0].reshape(evidence.shape)
        guess = evidence.reference.push(evidence.k, tangent)[0]
        guesses.append(guess.reshape(evidence.shape))
        if len(guesses) == 1 and not evidence.explains(guesses):
            return None
    if not evidence.explains(guesses) or evidence.explains(evidence.expected):
        return None
    return Hypothesis(
        "not_transposed",
        "the Jacobian itself",
        "The cotangent is J ct, the derivative in the direction of the incoming cotangent: it should be J^T ct.",
    )
