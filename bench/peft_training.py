"""The usual way to train a prompt with PEFT: rows padded to the longest, labels, a mask, the model's own loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from templates.soft import Method, PrefixTuning, PromptTuning, PTuning
from templates.soft.rows import Row

IGNORED = -100  # as a label: no loss here


class Peft:
    """A training with PEFT, step by step; AdamW without decay, as ours.

    Args:
        method: which of PEFT's methods, with sizes as this one has them.
        model: the causal language model; it is wrapped, and stays as it is.
        rate: the learning rate.
        start: [P, H] for prompt tuning to begin with; the other methods begin as PEFT has them begin.
    """

    def __init__(self, method: Method, model: Any, rate: float, start: Tensor | None = None) -> None:
        from peft import get_peft_model

        torch.manual_seed(0)
        self.model = get_peft_model(model, _config(method, model.config.hidden_size))
        self.model.train()
        if start is not None:
            with torch.no_grad():
                self.model.prompt_encoder["default"].embedding.weight.copy_(start)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)

    def step(self, rows: Sequence[Row]) -> float:
        """One step of the optimizer; the loss before it."""
        loss = self.model(**collated(rows)).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        found: float = loss.item()
        return found

    def loss(self, rows: Sequence[Row]) -> float:
        """The loss alone."""
        with torch.no_grad():
            found: float = self.model(**collated(rows)).loss.item()
        return found

    def prompt(self) -> Tensor:
        """The prompt as PEFT would save it, [P, H] or [P, L·2·K·D]."""
        found: Tensor = self.model.get_prompt_embedding_to_save("default")
        return found


def collated(rows: Sequence[Row]) -> dict[str, Tensor]:
    """The rows as a data collator makes them, without soft tokens, which PEFT puts in front itself."""
    texts = [[token for token, soft in zip(row.tokens, row.soft, strict=True) if soft < 0] for row in rows]
    width = max(map(len, texts))
    blanks = [width - len(text) for text in texts]
    labels = [[IGNORED] * (len(text) - row.answer) + text[-row.answer :] for text, row in zip(texts, rows, strict=True)]
    return {
        "input_ids": torch.tensor([text + [0] * blank for text, blank in zip(texts, blanks, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - blank) + [0] * blank for blank in blanks]),
        "labels": torch.tensor([label + [IGNORED] * blank for label, blank in zip(labels, blanks, strict=True)]),
    }


def _config(method: Method, hidden: int) -> Any:
    import peft

    if isinstance(method, PromptTuning):
        return peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.tokens)
    if isinstance(method, PTuning):
        return peft.PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=method.tokens,
            encoder_reparameterization_type="LSTM",
            encoder_hidden_size=hidden // 2,  # in each direction
            encoder_num_layers=2,
            encoder_dropout=0.0,
        )
    if isinstance(method, PrefixTuning):
        return peft.PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=method.tokens,
            prefix_projection=True,
            encoder_hidden_size=method.inner,
        )
    raise TypeError(f"PEFT has nothing like {method}")
