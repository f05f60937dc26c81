"""What holds for every test of a run."""

import os

import pytest

# Tests are many small pieces of work: threads that wait for each other at every operator make them several times slower
# as soon as anything else runs on the machine. Set before torch is imported; commands that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _one_executorch_thread() -> None:
    """ExecuTorch's thread count is fixed once a process; figures and tests of widths are of one thread."""
    from ebbtide.engine.executorch import fix_threads

    fix_threads(1)
