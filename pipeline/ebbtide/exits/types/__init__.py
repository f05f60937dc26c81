"""The exit types, a file each; every module names its one type ``TYPE``."""
