"""Sanity checks: each looks at results and returns a reason for mistrust, or none."""
