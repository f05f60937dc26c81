"""What answers at once must not import what takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "numpy", "executorch", "sklearn", "matplotlib", "timm", "torchvision", "scipy", "PIL")
PROBE = """
import sys
sys.argv = ["ebb", *{arguments!r}]
from ebbtide.cli import main
try:
    main()
except SystemExit as stopped:
    status = stopped.code
print("heavy:", [name for name in {heavy!r} if name in sys.modules], "status:", status)
"""


def run(*arguments: str) -> str:
    code = PROBE.format(arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_help_imports_nothing_heavy() -> None:
    said = run("--help")
    assert "heavy: [] status: 0" in said
    for command in (
        "init",
        "check",
        "inspect",
        "build",
        "personalise",
        "run",
        "serve",
        "bench",
        "verify",
        "install",
        "diff",
        "choose",
        "simulate",
        "keys",
    ):
        assert command in said


def test_recipe_error_imports_nothing_heavy_and_exits_2(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {timm: resnet18}\ndata: {digits: true}\nexit: auto\n")
    for command in ("build", "check", "inspect"):
        said = run(command, str(recipe))
        assert "heavy: [] status: 2" in said
        assert "recipe.unknown_key" in said
        assert f"{recipe}:3" in said
        assert "exits" in said


def test_init_writes_a_recipe_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    assert "status: 0" in run("init", str(path))
    before = path.read_text()
    assert "model:" in before
    said = run("init", str(path))
    assert "api.exists" in said
    assert path.read_text() == before


def test_bundle_commands_import_no_torch(tmp_path: Path) -> None:
    said = run("verify", str(tmp_path / "nothing"), "--key", str(tmp_path / "nothing.pem"))
    assert "heavy: []" in said
    assert "status: 2" in said
