"""See how a diffusion model works: schedules, exact and learned denoisers, samplers, training."""
