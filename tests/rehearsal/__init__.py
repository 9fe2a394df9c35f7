"""Rehearsals of bad days: runs that are killed or stopped, stores that are shared, clocks that jump, disks that are full."""
