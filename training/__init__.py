"""Training and evaluation of the networks that srfast runs."""
