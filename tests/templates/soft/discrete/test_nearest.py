from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from templates.errors import UserError
from templates.soft import SoftPrompt
from templates.soft.discrete.nearest import cosines, highest, nearest_tokens
from templates.soft.families import frozen_of


def test_cosines_by_hand() -> None:
    """(1, 0) and (3, 4): 3/5; (1, 0) and (0, 2): 0; lengths do not matter; zeros are near to nothing."""
    found = cosines(np.array([[1.0, 0.0], [0.0, 5.0]]), np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0], [-2.0, 0.0]]))
    assert found.tolist() == [[0.6, 0.0, 0.0, -1.0], [0.8, 1.0, 0.0, 0.0]]
    assert highest(found, 2).tolist() == [[0, 1], [1, 0]]
    assert highest(np.array([[1.0, 2.0, 2.0]]), 2).tolist() == [[1, 2]]


def test_vectors_of_words_are_nearest_to_these_words(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the embedding of "film" and a disturbed one of "dull", with the vocabulary in small pieces."""
    monkeypatch.setattr("templates.soft.discrete.nearest._PIECE", 7)
    frozen = frozen_of(AutoModelForMaskedLM.from_pretrained(taught), AutoTokenizer.from_pretrained(taught))
    film, dull = (frozen.tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in ("film", "dull"))
    table = frozen.embeddings.detach().numpy()
    prompt = SoftPrompt(np.stack([table[film] * 2, table[dull] + 0.05]), frozen.base)
    first, second = nearest_tokens(prompt, frozen, k=3)
    assert (first[0].token.strip(), first[0].id) == ("film", film)
    assert first[0].cosine == pytest.approx(1.0)
    assert second[0].id == dull
    assert len(second) == 3
    assert second[0].cosine >= second[1].cosine >= second[2].cosine
    with pytest.raises(UserError, match="at least 1, got 0"):
        nearest_tokens(prompt, frozen, k=0)
    torch.manual_seed(0)
    other = AutoModelForMaskedLM.from_config(frozen.model.config)
    other.name_or_path = "other"
    with pytest.raises(UserError, match="trained for"):
        nearest_tokens(prompt, frozen_of(other, frozen.tokenizer))
