"""Arrays that grow on disk, for reading as memory maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np


@contextmanager
def array_file(path: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[IO[bytes]]:
    """An .npy file to which the values are then written in order.

    Not a memory map: on a full disk a write to a map kills the process, a write to a file raises.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file
