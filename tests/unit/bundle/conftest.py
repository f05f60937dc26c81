from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebbtide.bundle import PrivateKey, new_key, write_bundle

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))

import bundle_maker

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> PrivateKey:
    return new_key(tmp_path_factory.mktemp("keys") / "dev.pem")


@pytest.fixture
def make(tmp_path: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes a bundle: make("name", payload=, size=, seed=, signer=, and top-level parts of the manifest)."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    def make_bundle(
        place: str = "bundle", *, payload: str = "raw", size: int = 6000, seed: int = 1, signer: Any = key, **parts: Any
    ) -> Path:
        files = bundle_maker.files(tmp_path / "sources", size=size, seed=seed)
        write_bundle(tmp_path / place, bundle_maker.draft(**parts), files, key=signer, payload=payload)
        return tmp_path / place

    return make_bundle
