"""Serving: the engine that carries out all visitors’ jobs, and what carries out the networks."""
