"""The tables of a run, one file each."""
