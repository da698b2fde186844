"""Networks assembled from blocks and adapters."""
