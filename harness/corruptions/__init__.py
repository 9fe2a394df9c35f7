"""Corruption plug-ins: real-world conditions of graded severity."""
