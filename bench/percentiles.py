"""Percentiles of samples, named as the metrics are."""

from __future__ import annotations

import math
from collections.abc import Sequence

SHARES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999}


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed."""
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("no samples, no percentile")
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def named(prefix: str, samples: Sequence[float], unit: str = "ms") -> dict[str, float]:
    """{"<prefix>_p50_<unit>": ..., p99, p99_9}"""
    ordered = sorted(samples)
    return {f"{prefix}_{name}_{unit}": percentile(ordered, share) for name, share in SHARES.items()}
