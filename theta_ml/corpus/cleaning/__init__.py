"""Cleaning: texts repaired, conversations not worth learning from rejected; each change and each rejection counted."""

from theta_ml.corpus.cleaning.clean import Cleaned, clean
from theta_ml.corpus.cleaning.rules import VERSION, Rules
from theta_ml.corpus.cleaning.samples import Sample, fewest

__all__ = ["VERSION", "Cleaned", "Rules", "Sample", "clean", "fewest"]
