"""The commands of ``srfast``, one module each; heavy imports wait until a command runs."""
