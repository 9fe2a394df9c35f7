"""Model files of a suite, and the same stored inputs scored in every runtime."""
