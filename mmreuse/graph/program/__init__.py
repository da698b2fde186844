"""Record what a network does, and cut it."""
