"""The rows of the section "calls": counts by name, of one kernel or of a whole call."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]  # one kernel in a case, or all of them under CALL
Rows = dict[str, dict[str, Row]]  # by case, then by kernel
CALL = "call"
