"""Whole studies that one command runs: the demo, figures of the literature, experiments with trained models."""

from .findings import Check as Check, Findings as Findings
from .names import STUDIES as STUDIES
from .running import reproduce as reproduce
