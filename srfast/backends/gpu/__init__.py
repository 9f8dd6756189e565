"""What the GPU backends share: buffers, CUDA graphs, the call on frames."""
