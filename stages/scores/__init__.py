"""What is measured on a model's answers to held-out prompts: one file a family; a new one is one line in `FAMILIES`."""

from stages.scores.base import Family
from stages.scores.diversity import diversity
from stages.scores.language import language
from stages.scores.likelihood import likelihood
from stages.scores.overlap import overlap

FAMILIES: tuple[Family, ...] = (likelihood, overlap, language, diversity)
