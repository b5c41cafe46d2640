"""Learning: Algorithm 1 line by line, and the network as it was while it was trained."""
