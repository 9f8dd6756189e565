"""What srfast says of a machine, a model file and its own exactness."""
