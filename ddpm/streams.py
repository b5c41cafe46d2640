"""The parts of generators' keys in one place, so that no two draws share a stream by accident: see ``ddpm.process.seeded``.

Whoever changes a number changes every picture, network or figure that was drawn with it.
"""

from __future__ import annotations

ORDER, FLIP, HELD_OUT_TOYS, DROPOUT, SIMPLE, PATHS, STRETCHES = range(1, 8)
"""Of trainings, third parts of (seed, step, part): the order of a data set, mirrored pictures, a toy's held-out points,
dropout, ε-losses, a student's paths and the stretches of a batch. A toy's batch has the order's."""

MOVES = 2
"""Of a classifier's training, likewise: how pictures are moved. Their order has ORDER."""

REFERENCE, FRESH, DIRECTIONS, FLOOR, FIELD, REAL = range(11, 17)
"""Of evaluations, third parts of (seed, index, part)."""

SHOWN, HELD_OUT, OTHERS, START, PROJECTIONS = range(41, 46)
"""Of data in the plane, second parts of (1, part, index): points to show, points held out, fresh ones for the floor, the
start of the forward process, the directions of the distance."""

FIT, UNSEEN = 51, 52
"""Of live trainings, likewise: points that the scaling is fitted to, and points that no training has drawn."""
