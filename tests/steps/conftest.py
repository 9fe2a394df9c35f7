from tests.deployed import deployed

__all__ = ["deployed"]
