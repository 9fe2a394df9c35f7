from tests.deployed import broken_export, deployed

__all__ = ["broken_export", "deployed"]
