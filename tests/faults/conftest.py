from pathlib import Path

import pytest
from faults_command import Command


@pytest.fixture
def ebb(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(tmp_path, capfd, monkeypatch)
