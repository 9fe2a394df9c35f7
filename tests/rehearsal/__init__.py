"""Rehearsals of bad days: runs that are killed, two runs on one store, a disk that is full, a store that may not be written."""
