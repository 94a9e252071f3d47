"""Ordering demonstrations. One method, one file."""

from icl.orderers.as_given import AsGiven, Reversed
from icl.orderers.by_similarity import BySimilarity
from icl.orderers.orderer import Orderer
from icl.orderers.shuffled import Shuffled

__all__ = ["AsGiven", "BySimilarity", "Orderer", "Reversed", "Shuffled"]
