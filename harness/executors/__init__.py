"""Executors: ways to run the steps of a plan."""
