"""The fixture `collector`: where a test's spans arrive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from otlp_kit import Collector, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector
