"""Linear maps of feature spaces, applied to every parameter that holds them."""
