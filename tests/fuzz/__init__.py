"""Fuzzing of readers of files from elsewhere: each returns or raises a HarnessError, in bounded time and memory."""
