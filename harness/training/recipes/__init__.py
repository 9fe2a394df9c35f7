"""Recipes: how a network learns, one file each."""
