"""What pyproject.toml cannot say: profiles and groups of devices live in devices and travel inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDevices(build_py):
    """Copies devices/profiles and devices/groups.yaml into ebbtide/device of a wheel.

    An editable installation reads the source.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            source = Path(__file__).parent / "devices"
            target = Path(self.build_lib) / "ebbtide" / "device"
            shutil.rmtree(target / "profiles", ignore_errors=True)
            shutil.copytree(source / "profiles", target / "profiles")
            shutil.copy(source / "groups.yaml", target)


setup(cmdclass={"build_py": BuildWithDevices})
