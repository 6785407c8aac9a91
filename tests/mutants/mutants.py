"""All mutants, by name. Each module is about the rooms that its mutants change."""

from __future__ import annotations

import lmdb_mutants  # noqa: F401
import lmdb_order_mutants  # noqa: F401
import running_mutants  # noqa: F401
from mutant import ALL, Mutant

__all__ = ["ALL", "Mutant"]
