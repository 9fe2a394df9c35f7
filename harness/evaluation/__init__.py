"""The evaluation protocol: clean and attacked sweeps, sanity checks, statistics."""
