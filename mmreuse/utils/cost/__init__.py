"""What a network costs: operations, milliseconds, bytes."""
