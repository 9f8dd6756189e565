"""ONNX files, mapped to modules operation by operation."""
