"""How alike the nodes of a zoo are."""
