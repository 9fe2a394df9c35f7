"""Finished steps on disk: the store, its locks, outcomes as files, and where a result came from."""
