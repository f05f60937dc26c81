"""A session, lowered programs of several widths, and the benchmarks' modules that long runs are made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_bundles import open_session
from runtime_programs import lowered_programs

from ebbtide.lowering import LoweredProgram
from ebbtide.runtime import Session

BENCHMARKS = Path(__file__).resolve().parents[3] / "pipeline" / "benchmarks"


@pytest.fixture(scope="session")
def benchmarks() -> Iterator[None]:
    """Makes the benchmarks' modules importable."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="session")
def programs(benchmarks: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoweredProgram, ...]:
    """Three widths of a small network, each in two stages."""
    from widths_programs import small_widths

    return small_widths(tmp_path_factory.mktemp("widths"))


@pytest.fixture(scope="session")
def small_programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The programs of `runtime_bundles`, lowered."""
    return lowered_programs(tmp_path_factory.mktemp("small"))


@pytest.fixture
def session() -> Iterator[Session]:
    """Of eager programs, closed afterwards."""
    with open_session() as opened:
        yield opened
