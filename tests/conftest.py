"""One thread: the tests' tensors are small, and their sums then do not depend on the machine's cores."""

import torch

torch.set_num_threads(1)
