"""Found by every interpreter that a mutant's tests start: it has the mutant too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "III_MUTANT" in os.environ:
    sys.path.append(str(Path(__file__).parents[1]))
    import mutants

    mutants.ALL[os.environ["III_MUTANT"]].put_in()
