"""Tools for developers: compile gates, tuning. Nothing here is imported at run time."""
