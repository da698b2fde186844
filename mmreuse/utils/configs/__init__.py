"""Configs: read, resolved and matched with the components that they name."""
