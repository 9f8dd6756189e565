"""Which layers, functions and tensor methods can be captured, and the nodes that they become."""
