"""Groups of maps that leave a network's function alone, space by space, and the canonical form in which they act."""
