"""The empirical Fisher information of a network and the gradients that it is made of."""
