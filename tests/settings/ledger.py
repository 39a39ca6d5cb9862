"""Examples that fail under a setting, in rooms that a later issue rebuilds.  The ledger may only shrink.

(setting, example) -> the issue's subject: what goes wrong.
"""

from tests.settings.settings import SETTINGS

ESTIMATORS = "Numbers that hold at any scale, estimators: Gram matrices of examples that are split over a mesh"
JITTED = "Numbers that hold at any scale: jit(integrate) with x64 off, whose int64 indices cannot be lowered"

LEDGER: dict[tuple[str, str], str] = {
    **{
        ("Explicit mesh", f"optimality.{name}"): ESTIMATORS
        for name in (
            "svm.fit_dual", "svm.fit_primal", "svm.linear", "svm.polynomial", "svm.rbf",
            "regression.lasso", "regression.ridge", "regression.logistic",
        )
    },
    **{
        (name, "integrals.integrate, jitted"): JITTED
        for name, setting in SETTINGS.items()
        if not setting.x64 and not setting.disable_jit
    },
}  # fmt: skip

AT_MOST = 15
