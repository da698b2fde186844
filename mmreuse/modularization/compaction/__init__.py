"""From a network with zeros to a smaller one that computes the same."""
