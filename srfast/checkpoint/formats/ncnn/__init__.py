"""ncnn networks: text, numbers, layers, and the reader."""
