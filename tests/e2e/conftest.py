from conftest_e2e import built, ebb

__all__ = ["built", "ebb"]
