"""Likelihood: the variational bound, term by term."""
