"""Training: the loop, its optimizers, several processes, distillation."""
