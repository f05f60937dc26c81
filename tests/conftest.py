"""What holds for every test of a run."""

import os

# Tests are many small pieces of work: threads that wait for each other at every operator make them several times slower
# as soon as anything else runs on the machine. Set before torch is imported; commands that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
