"""Corruption plug-ins: image changes without an attacker, of graded severity."""
