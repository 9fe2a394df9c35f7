"""From a suite to cells, and from cells to a graph of steps."""
