"""The model whose weights stay as they are, and what it computes of rows, with a trained prompt in them or without.

Dimensions: B rows, T tokens, P soft tokens, H hidden, V vocabulary, A answer tokens of a batch, L layers, K heads of
keys and values, D head size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from templates.errors import Unsupported
from templates.soft.base import Base, base_of
from templates.soft.caches import goes_on, spread
from templates.soft.losses import pieces, token_losses
from templates.soft.prompt import Prefix, SoftPrompt, Trained
from templates.soft.recompute import recomputed
from templates.soft.rows import Batch, Labelled, Row, as_batch, beginning, row_of
from templates.template import Template

_SAMPLED = 1024  # numbers of a weight that say whether it is the same


@dataclass(eq=False)
class Frozen:
    """A causal language model of transformers, in evaluation mode, none of whose weights gets a gradient.

    Unless some of them are what is trained: see `held`.

    Args:
        model: as transformers loads it.
        tokenizer: its own.
    """

    model: Any
    tokenizer: Any
    kinds: ClassVar[tuple[type[Trained], ...]] = (SoftPrompt, Prefix)  # what can be trained for it

    @cached_property
    def base(self) -> Base:
        """Which model it is."""
        return base_of(self.model.name_or_path, self.model.config)

    @cached_property
    def embeddings(self) -> Tensor:
        """[V, H]."""
        weights: Tensor = self.model.get_input_embeddings().weight
        return weights

    @property
    def size(self) -> int:
        """How many weights it has; shared ones count once."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def device(self) -> Any:
        """Where it computes."""
        return self.embeddings.device

    @property
    def context(self) -> int:
        """Positions that it has, prompt, prefix and answer together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 2**31))

    def fingerprint(self) -> str:
        """A digest of some numbers of each of its weights as they are now, wherever they are from."""
        digest = blake2b(digest_size=8)
        for weight in self.model.parameters():
            digest.update(str(tuple(weight.shape)).encode())
            if not weight.is_meta:  # where weights are left on disk
                some = weight.detach().flatten()[:: max(1, weight.numel() // _SAMPLED)]
                digest.update(some.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def row(self, template: Template, example: Labelled, answer: str, room: int, *, end: bool) -> Row:
        """The example as the model is trained on it; see `row_of`."""
        return row_of(self.tokenizer, template, example, answer, room, end=end)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """The rows as one batch, where the model computes; what all begin with is run once, if the model can."""
        return as_batch(rows, self.device, shared=beginning(rows) if self.shares else 0)

    @contextmanager
    def held(self, *, recompute: bool = False, learning: Sequence[nn.Parameter] = ()) -> Iterator[None]:
        """Within, no weight is to be trained, and nothing is dropped out; afterwards all is as it was.

        Args:
            recompute: see `recomputed`.
            learning: the model's own weights that are to be trained all the same.
        """
        wanted = {weight: weight.requires_grad for weight in self.model.parameters()}
        training = {module: module.training for module in self.model.modules()}
        self.model.requires_grad_(False)  # noqa: FBT003 - torch's own
        for weight in learning:
            weight.requires_grad = True
        self.model.eval()
        try:
            with recomputed(self.model) if recompute else nullcontext():
                yield
        finally:
            for weight, was in wanted.items():
                weight.requires_grad = was
            for module, was in training.items():
                module.training = was

    def loss(self, batch: Batch, prompt: Tensor | None) -> Tensor:
        """Cross-entropy of the batch's answer tokens, summed."""
        return self.losses(batch, prompt).sum()

    def losses(self, batch: Batch, prompt: Tensor | None) -> Tensor:
        """Cross-entropy of each of the batch's answer tokens, [A] float32.

        What is made of them may weigh each token as it likes, unless weights of the output layer learn: these want the
        sum.
        """
        learning = [weight for weight in self.model.get_output_embeddings().parameters() if weight.requires_grad]
        return token_losses(self.hidden(batch, prompt), batch.targets, self.logits, len(self.embeddings), learning)

    def hidden(self, batch: Batch, prompt: Tensor | None) -> Tensor:
        """What the output layer is given where an answer's token is to be said, [A, H]; nowhere else are logits made.

        Args:
            batch: its rows are filled up on the right, where no token before sees it: no mask is needed.
            prompt: [P, H], or [P, L·2·K·D] before everything; of whichever kind the batch's rows have been made for.
                None where there is none.
        """
        found: list[Tensor] = []

        def take(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            found.append(inputs[0])
            return (inputs[0][:, :0],)  # no logits here

        with self._at_output(take):
            self.run(batch, prompt)
        return found[-1].flatten(0, 1)[batch.places]

    def run(self, batch: Batch, prompt: Tensor | None) -> Any:
        """What the model makes of the rows, behind what they begin with."""
        from transformers import DynamicCache

        rows, lead = len(batch.ids), batch.lead
        past = self.cache(prompt, 1 if lead else rows) if batch.prefixed and prompt is not None else None
        if lead:
            past = DynamicCache() if past is None else past
            self.model(inputs_embeds=self._embedded(lead, prompt), past_key_values=past, use_cache=True)
            past = spread(past, rows)
        return self.model(inputs_embeds=self._embedded(batch, prompt), past_key_values=past, use_cache=False)

    def run_one(self) -> Any:
        """What the model makes of one token, whichever it is."""
        return self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device))

    def logits(self, hidden: Tensor) -> Tensor:
        """The model's logits for what its output layer is given, [A, V].

        Some models scale and cap their logits, each in its own way. Such a model computes them itself: it runs over one
        token, in the place of whose hidden state these are put.
        """
        return self._output(hidden) if self._plain else self._logits(hidden)

    @property
    def shares(self) -> bool:
        """Whether rows can share what they begin with. Layers that run again for gradients keep no keys and values."""
        return self._goes_on and not self.model.is_gradient_checkpointing

    @cached_property
    def _goes_on(self) -> bool:
        return goes_on(self.model)

    @cached_property
    def _plain(self) -> bool:
        """Whether logits are what the output layer says, and no more, to the bit; of quantized ones nobody asks."""
        layer = self.model.get_output_embeddings()
        if type(layer) is not nn.Linear:
            return False
        with torch.no_grad():
            some = torch.randn(2, layer.weight.shape[-1], generator=torch.Generator().manual_seed(0))
            hidden = some.to(self.device) * 10  # large ones are where caps are felt
            return torch.equal(self._output(hidden), self._logits(hidden))

    def _output(self, hidden: Tensor) -> Tensor:
        layer = self.model.get_output_embeddings()
        logits: Tensor = layer(hidden.to(layer.weight.dtype))
        return logits.float()

    def _logits(self, hidden: Tensor) -> Tensor:
        with self._at_output(lambda _, inputs: (hidden[None].to(inputs[0].dtype),)):
            logits: Tensor = self.run_one().logits
        return logits[0].float()

    def logprobs(self, batch: Batch, prompt: Tensor | None) -> list[Tensor]:
        """Log-probabilities of each row's answer tokens, and whether each is the most likely one: [2, tokens] a row."""
        hidden = self.hidden(batch, prompt)
        found = []
        for state, target in pieces(hidden, batch.targets, len(self.embeddings)):
            logits = self.logits(state)
            chance = logits.log_softmax(-1).gather(1, target[:, None])[:, 0]
            found.append(torch.stack([chance, (logits.argmax(-1) == target).float()]))
        return list(torch.split(torch.cat(found, 1), batch.answers, 1))

    def _embedded(self, batch: Batch, prompt: Tensor | None) -> Tensor:
        """[B, T, H]: the tokens' embeddings, with the prompt's rows where soft tokens stand."""
        embedded: Tensor = self.model.get_input_embeddings()(batch.ids)
        if batch.soft is None or prompt is None:
            return embedded
        return torch.where((batch.soft < 0)[..., None], embedded, prompt.to(embedded)[batch.soft.clamp(min=0)])

    def check_cache(self) -> None:
        """Refuse a model that keeps other keys and values than prefixes have.

        Raises:
            Unsupported: it keeps none, or of another shape than its configuration says.
        """
        from transformers import DynamicCache

        base, cache = self.base, DynamicCache(config=self.model.config)
        one = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            self.model(input_ids=one, past_key_values=cache, use_cache=True)
        kept = [getattr(layer, "keys", None) for layer in cache.layers]
        shapes = {None if keys is None else (keys.shape[1], keys.shape[3]) for keys in kept}
        if len(kept) != base.layers or shapes != {(base.kv_heads, base.head_size)}:
            raise Unsupported(
                f"{base.name!r} ({self.model.config.model_type}) does not keep keys and values of {base.kv_heads} "
                f"heads of {base.head_size} in each of {base.layers} layers, as its configuration has it, so that no "
                "prefix can be trained for it; use PromptTuning or PTuning"
            )

    def cache(self, prefix: Tensor, rows: int) -> Any:
        """Keys and values of the prefix [P, L·2·K·D] as a cache of so many rows."""
        from transformers import DynamicCache

        base = self.base
        layered = prefix.to(self.embeddings.dtype).view(len(prefix), base.layers, 2, base.kv_heads, base.head_size)
        cache = DynamicCache()  # whose layers keep all, also where a window sees less
        for layer, (keys, values) in enumerate(layered.permute(1, 2, 3, 0, 4)):  # [K, P, D] each
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return cache

    @contextmanager
    def _at_output(self, change: Any) -> Iterator[None]:
        handle = self.model.get_output_embeddings().register_forward_pre_hook(change)
        try:
            yield
        finally:
            handle.remove()
