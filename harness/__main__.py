"""Runs the command line as `python -m harness`."""

from harness.cli.program import run

run()
