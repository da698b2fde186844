"""Choose assemblies within limits: an integer program, scored by proxies."""
