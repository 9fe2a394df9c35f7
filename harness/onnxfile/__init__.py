"""A finished ONNX file as a model: ONNX Runtime decides; its gradient is that of a twin, or of the converted graph."""
