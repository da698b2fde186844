"""Studies of trained networks that tools run: alignment, diagnosis, tables of merges."""
