"""Cost of a network: operations, milliseconds, bytes."""
