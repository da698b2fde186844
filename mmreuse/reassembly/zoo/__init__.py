"""The networks that blocks are taken from: their weights, nodes and costs."""
