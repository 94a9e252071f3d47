"""The shortest loop there is: logits where answers are, torch's own loss, and nothing else."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from templates.soft.frozen import Frozen
from templates.soft.rows import Row, as_batch


class Bare:
    """A training of a Llama's prompt, step by step.

    Args:
        frozen: the model; of it rows, batches and a prefix's cache are taken, not the loss.
        module: what is trained; called, it gives the prompt.
        rate: the learning rate.
    """

    def __init__(self, frozen: Frozen, module: nn.Module, rate: float) -> None:
        self.frozen, self.module = frozen, module
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.0)

    def step(self, rows: Sequence[Row]) -> float:
        """One step of the optimizer; the loss before it."""
        model: Any = self.frozen.model
        batch, prompt = as_batch(rows), self.module()
        embedded, cache = model.get_input_embeddings()(batch.ids), None
        if batch.soft is None:
            cache = self.frozen.cache(prompt, len(rows))
        else:
            embedded = torch.where((batch.soft < 0)[..., None], embedded, prompt[batch.soft.clamp(min=0)])
        hidden = model.model(inputs_embeds=embedded, past_key_values=cache, use_cache=False).last_hidden_state
        loss = nn.functional.cross_entropy(model.lm_head(hidden.flatten(0, 1)[batch.places]), batch.targets)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()
