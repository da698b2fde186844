"""Every matcher is one file; importing the package registers them all."""
