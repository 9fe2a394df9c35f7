"""The command line: verbs parse, call the library and print."""
