"""The lowering back ends, a file each; every module names its one back end ``BACKEND``."""
