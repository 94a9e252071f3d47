"""Sentence encoders: texts to unit vectors."""

from icl.embedders.encoder import SentenceEncoder

__all__ = ["SentenceEncoder"]
