"""Histogram: each value in the bucket that bisection finds, and their sum."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_core import Histogram

numbers = st.floats(-1e9, 1e9)


@given(st.lists(numbers, unique=True, max_size=20).map(sorted), st.lists(numbers, max_size=50))
def test_it_counts_as_bisection_does(bounds: list[float], values: list[float]) -> None:
    histogram, twin = Histogram(bounds), [0] * (len(bounds) + 1)
    for value in [*values, *bounds]:
        histogram.add(value)
        twin[bisect_left(bounds, value)] += 1
        histogram.check()
    assert histogram.counts == twin
    assert histogram.sum == pytest.approx(sum([*values, *bounds]))


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (float("nan"), 1, 0)])
def test_bounds_that_do_not_rise_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Histogram(bounds)


def test_only_numbers_are_counted() -> None:
    with pytest.raises(TypeError):
        Histogram((1.0,)).add("1")  # type: ignore[arg-type]
