"""Poison plug-ins, their manifests, and poison detectors."""
