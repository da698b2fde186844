"""Files: written atomically, hashed, and read without running what they contain."""
