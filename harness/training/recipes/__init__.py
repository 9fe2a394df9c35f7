"""Training recipes, one file each."""
