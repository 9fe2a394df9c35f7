"""Suite files: YAML, overrides and variables, the frozen Suite, and whether its parts fit each other."""
