"""Configs as runs take them: read, merged with options, checked before anything starts."""
