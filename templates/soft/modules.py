"""What is trained of a prompt, as modules that give its rows when they are called.

Every number is trained in units of what a prompt begins with, so that one learning rate suits models of any size of
numbers: at first all of these modules give what they were given.

Dimensions: P soft tokens, W numbers of one (H, or L·2·K·D), H hidden. Of several prompts: K tasks, r rank, J prompts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Direct(nn.Module):
    """The rows themselves: start + unit · change, the change zero at first.

    Args:
        start: [P, W].
        parts: equal parts of a row that have a unit each, as keys and values of each layer do.
    """

    start: Tensor
    unit: Tensor

    def __init__(self, start: Tensor, parts: int = 1) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("unit", unit_of(start, parts))
        self.change = nn.Parameter(torch.zeros_like(start))

    def forward(self) -> Tensor:
        """[P, W]."""
        return self.start + self.unit * self.change


class Encoder(nn.Module):
    """Rows behind a bi-LSTM and an MLP, or an MLP alone: start + unit · what comes out, zero at first.

    What the LSTM says is small at first, as its gates are half open twice; it is brought to a root mean square of 1, by
    a constant, so that the MLP learns behind it as fast as without it.

    Args:
        start: [P, H].
        recurrent: whether there is a bi-LSTM.
        seed: of the weights.
    """

    start: Tensor
    unit: Tensor
    gain: Tensor

    def __init__(self, start: Tensor, *, recurrent: bool, seed: int) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("unit", unit_of(start, 1))
        width = start.shape[1]
        with drawn(seed):
            self.tokens = nn.Parameter(start / self.unit)
            self.lstm = (
                nn.LSTM(width, width // 2, num_layers=2, bidirectional=True, batch_first=True) if recurrent else None
            )
            between = width // 2 * 2 if recurrent else width
            self.mlp = nn.Sequential(nn.Linear(between, width), nn.ReLU(), nn.Linear(width, width))
        silenced(self.mlp[2])
        with torch.no_grad():
            self.register_buffer("gain", self._known().pow(2).mean().rsqrt() if recurrent else torch.ones(()))

    def forward(self) -> Tensor:
        """[P, H]; the encoder runs once, whatever the batch."""
        return torch.addcmul(self.start, self.unit, self.mlp(self.gain * self._known()))

    def _known(self) -> Tensor:
        """What each token knows of the others, [P, H]."""
        return self.lstm(self.tokens[None])[0][0] if self.lstm is not None else self.tokens


class Widened(nn.Module):
    """Keys and values of all layers behind one MLP: start + unit · MLP(tokens), zero at first.

    Args:
        start: [P, W].
        parts: see `Direct`.
        hidden: width of the tokens.
        inner: width of the MLP.
        seed: of the weights.
    """

    start: Tensor
    unit: Tensor

    def __init__(self, start: Tensor, parts: int, *, hidden: int, inner: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("unit", unit_of(start, parts))
        with drawn(seed):
            self.tokens = nn.Parameter(torch.randn(len(start), hidden))
            self.mlp = nn.Sequential(nn.Linear(hidden, inner), nn.Tanh(), nn.Linear(inner, start.shape[1]))
        silenced(self.mlp[2])

    def forward(self) -> Tensor:
        """[P, W]."""
        return torch.addcmul(self.start, self.unit, self.mlp(self.tokens))


class Factored(nn.Module):
    """A prompt for each task: the shared one times factors of low rank, P* ∘ (u_k v_k), all of which are 1 at first.

    Of a rank above one the first part begins at ones; each other part at u = 0, which changes nothing, and a v that is
    drawn, so that no two parts stay the same.

    Args:
        shared: gives P*, [P, W].
        tasks: K.
        rank: r.
        seed: of what is drawn.
    """

    def __init__(self, shared: nn.Module, tasks: int, rank: int, seed: int) -> None:
        super().__init__()
        self.shared = shared
        with torch.no_grad():
            tokens, width = shared().shape
        columns, rows = torch.zeros(tasks, tokens, rank), torch.ones(tasks, rank, width)
        columns[:, :, 0] = 1
        rows[:, 1:] = torch.randn(tasks, rank - 1, width, generator=torch.Generator().manual_seed(seed))
        self.u, self.v = nn.Parameter(columns), nn.Parameter(rows)

    def forward(self) -> Tensor:
        """[K·P, W]: the first task's rows, then the second's, …."""
        return torch.flatten(self.shared() * (self.u @ self.v), 0, 1)


class Mixing(nn.Module):
    """Several prompts, and how much each counts: the same at first.

    Args:
        prompts: J modules that give one each, [P, W].
    """

    def __init__(self, prompts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.prompts = nn.ModuleList(prompts)
        self.logits = nn.Parameter(torch.zeros(len(prompts)))

    def forward(self) -> dict[str, Tensor]:
        """All prompts one after another [J·P, W], and the logarithms of their weights [J]."""
        return {"prompt": torch.cat([prompt() for prompt in self.prompts]), "logs": self.logits.log_softmax(0)}


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """Within, what is drawn on the CPU comes from the seed. Afterwards all generators are as they were.

    `torch.manual_seed` would seed those of all devices too, for good.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def unit_of(start: Tensor, parts: int) -> Tensor:
    """Root mean square of each part of the rows, [W]; 1 where a part is all zero."""
    size = start.view(len(start), parts, -1).pow(2).mean((0, 2)).sqrt()  # [parts]
    return torch.where(size > 0, size, torch.ones_like(size)).repeat_interleave(start.shape[1] // parts)


def silenced(layer: nn.Module) -> None:
    """Let the layer give zero until it has learnt better."""
    for weights in layer.parameters():
        nn.init.zeros_(weights)
