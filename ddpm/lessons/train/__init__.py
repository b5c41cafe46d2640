"""Train it yourself: a small network learns while the visitor watches."""
