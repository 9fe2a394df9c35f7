"""Scores the same stored inputs in PyTorch and in ONNX Runtime, from Python and from C++, and says whether they agree.

`harness.crosscheck` is the function of `harness.crossruntime.run`.
"""
