"""Adapters to the attacks of the library torchattacks."""
