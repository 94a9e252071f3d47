"""Reasoning strategies: how a model gets from a problem to an answer."""

from cot.adaptive import AdaptiveSelfConsistency
from cot.chain import Direct, FewShotCoT
from cot.self_consistency import SelfConsistency
from cot.votes import Votes
from cot.zero_shot import ZeroShotCoT

__all__ = ["AdaptiveSelfConsistency", "Direct", "FewShotCoT", "SelfConsistency", "Votes", "ZeroShotCoT"]
