"""The lessons in the order of the tour, which is that of the navigation."""

from __future__ import annotations

from ddpm.lessons.learning.page import LESSON as LEARNING
from ddpm.lessons.likelihood.page import LESSON as LIKELIHOOD
from ddpm.lessons.line.page import LESSON as LINE
from ddpm.lessons.noising.page import LESSON as NOISING
from ddpm.lessons.one_step.page import LESSON as ONE_STEP
from ddpm.lessons.pictures.page import COLOUR, DIGITS
from ddpm.lessons.plane.page import LESSON as PLANE
from ddpm.lessons.schedules.page import LESSON as SCHEDULES
from ddpm.lessons.train.page import LESSON as TRAIN
from ddpm.page.builder import Lesson

LESSONS: tuple[Lesson, ...] = (DIGITS, COLOUR, LINE, PLANE, TRAIN, NOISING, SCHEDULES, LEARNING, LIKELIHOOD, ONE_STEP)
