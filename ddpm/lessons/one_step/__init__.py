"""In one step: why the network takes many, and what a student of it draws in one, two and four."""
