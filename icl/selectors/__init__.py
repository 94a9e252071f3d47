"""Choosing demonstrations: which examples of a pool a query is shown. One method, one file."""

from icl.selectors.bm25 import BM25
from icl.selectors.fixed import Fixed
from icl.selectors.knn import KNN
from icl.selectors.random import Random
from icl.selectors.selector import Selector

__all__ = ["BM25", "KNN", "Fixed", "Random", "Selector"]
