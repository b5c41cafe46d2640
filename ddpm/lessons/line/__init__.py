"""On the line: noise splits into two Gaussians."""
