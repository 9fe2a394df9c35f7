"""Compares runtimes on the same stored inputs."""
