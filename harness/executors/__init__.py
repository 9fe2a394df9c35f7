"""Ways to run a plan's ready steps."""
