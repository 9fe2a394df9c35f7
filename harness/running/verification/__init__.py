"""Checks published results: against the store and the examples, against a computation anew, against images from elsewhere."""
