"""Whether a model may ship: the suite's requirements against the intervals of its numbers."""
