"""Examples that fail under a setting, in rooms that a later issue rebuilds.  The ledger may only shrink.

(setting, example) -> the issue's subject: what goes wrong.
"""

AT_MOST = 0

LEDGER: dict[tuple[str, str], str] = {}
