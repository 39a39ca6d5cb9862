"""Examples that fail under a setting, in rooms that a later issue rebuilds.  The ledger may only shrink.

(setting, example) -> the issue's subject: what goes wrong.
"""

ESTIMATORS = "Numbers that hold at any scale, estimators: Gram matrices of examples that are split over a mesh"

LEDGER: dict[tuple[str, str], str] = {
    **{
        ("Explicit mesh", f"optimality.{name}"): ESTIMATORS
        for name in (
            "svm.fit_dual", "svm.fit_primal", "svm.linear", "svm.polynomial", "svm.rbf",
            "regression.lasso", "regression.ridge", "regression.logistic",
        )
    },
}  # fmt: skip

AT_MOST = 8
