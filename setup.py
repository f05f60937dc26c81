"""What pyproject.toml cannot say: the device profiles live in devices/profiles and travel inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithProfiles(build_py):
    """Copies devices/profiles into ebbtide/device/profiles of a wheel; an editable installation reads the source."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            source = Path(__file__).parent / "devices" / "profiles"
            target = Path(self.build_lib) / "ebbtide" / "device" / "profiles"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)


setup(cmdclass={"build_py": BuildWithProfiles})
