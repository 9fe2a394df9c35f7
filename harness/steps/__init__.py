"""The kinds of steps that a plan is made of, one file each."""
