"""Tiny random models that fill in masks, with tokenizers of their own."""

from pathlib import Path
from typing import Any

_TEXT = (
    "red blue green gold cat dog bird fish film song book play good bad fine dull great awful it was is the a an very "
    "review text topic answer one two three four five six seven eight nine ten : . , ? !"
)
WORDS = _TEXT.split()
SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
KINDS: dict[str, dict[str, Any]] = {
    "bert": SMALL | {"max_position_embeddings": 64, "pad_token_id": 0},
    "roberta": SMALL | {"max_position_embeddings": 66, "pad_token_id": 1},
}


def wordpiece() -> Any:
    """BERT's kind of tokenizer: lower case, words of the list whole, all others in letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokens = [*special.values(), *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of another kind
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in special.items()}
    )


def byte_pairs() -> Any:
    """RoBERTa's kind: bytes, with a word's space before it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"x {' '.join(WORDS)}", " ".join(WORDS)] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",  # noqa: S106 - a token of another kind
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        sep_token="</s>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        mask_token=AddedToken("<mask>", lstrip=True),
    )


def make_masked(kind: str, folder: Path) -> Path:
    """A tiny random model of one architecture."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    tokenizer = wordpiece() if kind == "bert" else byte_pairs()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **KINDS[kind])
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


KINDS_OF_THING = {"cat": "one", "dog": "one", "bird": "one", "film": "two", "song": "two", "book": "two"}
KINDS_OF_WORTH = {"great": "good", "fine": "good", "very": "good", "dull": "bad", "awful": "bad", "bad": "bad"}
CUES = {"topic": KINDS_OF_THING, "review": KINDS_OF_WORTH}


def phrases() -> list[tuple[str, dict[str, str]]]:
    """All phrases of the taught task, with the answer for each cue."""
    return [
        (f"{colour} {thing} is {worth}", {"topic": kind, "review": value})
        for colour in ("red", "blue")
        for thing, kind in KINDS_OF_THING.items()
        for worth, value in KINDS_OF_WORTH.items()
    ]


def teach(folder: Path, steps: int = 300) -> Path:
    """Teach the model two tasks, and which word before a phrase asks for which: without one it is even between both.

    After "topic" it says what the thing is: one or two; after "review" whether it is good or bad. Phrases begin at
    different positions, so that there may be something before them.
    """
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    mask = tokenizer.mask_token
    texts, answers = [], []
    for phrase, known in phrases():
        for cue in CUES:
            texts += [f"{cue} {phrase} :{mask}", f"a {phrase} :{mask}"]
            answers += [known[cue]] * 2
    rows = tokenizer(texts, return_tensors="pt", padding=True)
    targets = torch.tensor([tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in answers])
    first = tokenizer.pad_token_id + 1 if model.config.model_type == "roberta" else 0
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.eval()
    for _ in range(steps):
        some = torch.randperm(len(texts), generator=generator)[:64]
        ids = rows.input_ids[some]
        start = first + int(torch.randint(0, 9, (), generator=generator))
        positions = torch.arange(start, start + ids.shape[1])[None]
        logits = model(input_ids=ids, attention_mask=rows.attention_mask[some], position_ids=positions).logits
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits[ids == tokenizer.mask_token_id], targets[some])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def examples(cue: str) -> list[Any]:
    """The taught task after one cue, a phrase each."""
    from icl import Example

    return [Example(f"{cue}/{number}", {"text": text}, known[cue]) for number, (text, known) in enumerate(phrases())]
