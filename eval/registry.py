"""What can be named on the command line and in YAML files. The only place where names are strings."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from types import MappingProxyType
from typing import Any, get_type_hints

from templates.errors import UnknownName, UserError

# name -> "module:attribute"; a module is loaded when its name is used, so that listing them all costs nothing.
REGISTRY: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "selectors": {
            "random": "icl.selectors.random:Random",
            "fixed": "icl.selectors.fixed:Fixed",
            "knn": "icl.selectors.knn:KNN",
            "bm25": "icl.selectors.bm25:BM25",
        },
        "orderers": {
            "similarity": "icl.orderers:BySimilarity",
            "shuffled": "icl.orderers:Shuffled",
            "as-given": "icl.orderers:AsGiven",
            "reversed": "icl.orderers:Reversed",
        },
        "strategies": {
            "direct": "cot.chain:Direct",
            "few-shot-cot": "cot.chain:FewShotCoT",
            "zero-shot-cot": "cot.zero_shot:ZeroShotCoT",
            "self-consistency": "cot.self_consistency:SelfConsistency",
            "adaptive-self-consistency": "cot.adaptive:AdaptiveSelfConsistency",
        },
        "tasks": {
            "gsm8k": "eval.tasks.gsm8k:GSM8K",
            "sums": "eval.tasks.sums:SUMS",
            "labels": "eval.tasks.labels:LABELS",
        },
        "methods": {
            "prompt-tuning": "templates.soft:PromptTuning",
            "p-tuning": "templates.soft:PTuning",
            "prefix-tuning": "templates.soft:PrefixTuning",
            "p-tuning-v2": "templates.soft:PTuningV2",
            "llama-adapter": "templates.soft.gated:LlamaAdapter",
            # Of the model's own weights, for comparison.
            "lora": "templates.soft.baselines:LoRA",
            "ia3": "templates.soft.baselines:IA3",
            "bitfit": "templates.soft.baselines:BitFit",
            "full": "templates.soft.baselines:Full",
            "linear-probe": "templates.soft.baselines:LinearProbe",
        },
        "backends": {
            "vllm": "icl.backends.vllm:VLLM",
            "transformers": "icl.backends.transformers:Transformers",
            "openai": "icl.backends.openai:OpenAI",
            "replay": "icl.backends.replay:Replay",
        },
    }
)


def find(kind: str, name: str) -> Any:
    """The class or object with this name.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    known = REGISTRY[kind]
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise UnknownName(f"no {_ONE[kind]} {name!r}; the nearest: {', '.join(near)} (all: icl list {kind})")
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)


def build(kind: str, name: str, *values: Any, **params: Any) -> Any:
    """The thing with this name, made with these parameters.

    Raises:
        UserError: it takes no such parameter; names those that it takes.
    """
    make = find(kind, name)
    try:
        signature(make).bind(*values, **params)
    except TypeError as error:
        takes = [parameter for parameter in signature(make).parameters if parameter != "self"]
        others = [key for key in params if key not in takes]
        wrong = f"no {', no '.join(others)} there" if others else str(error)
        raise UserError(f"{_ONE[kind]} {name!r}: {wrong}; it takes {', '.join(takes) or 'nothing'}") from error
    hints = get_type_hints(make.__init__)
    for key, value in params.items():
        if not _fits(value, hints.get(key)):
            raise UserError(f"{_ONE[kind]} {name!r}: {key} is of type {hints[key].__name__}, got {value!r}")
    return make(*values, **params)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from outside is of the plain type that is asked for; other types look after themselves."""
    if kind not in (int, float, str, bool):
        return True
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


_ONE = {
    "selectors": "selector",
    "orderers": "orderer",
    "strategies": "strategy",
    "tasks": "task",
    "methods": "method",
    "backends": "backend",
}
