"""Training: the loop, its optimizers, several processes, distillation."""

from ddpm import moved

__getattr__ = moved.split("training")
