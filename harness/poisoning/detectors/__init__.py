"""Poison detectors and how they are scored."""
