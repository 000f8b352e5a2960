"""Published tokenizers give the ids of ``transformers`` for every text, by every way to encode."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.train.supervised import _documents
from test_published import llama2_tokenizer, llama3_tokenizer, olmo_tokenizer, qwen_tokenizer

SOME = (
    " ", "  ", "\n", "\n\n", "a", "make", "Q:", "A:", "▁", "é", "日", "🙂", "e\u0301", "\t", "5", ".", "</", "s>", "<",
    "\r\n", "\u00a0", "\x00", "\u202e", "0123456789" * 9,
)  # fmt: skip


def odd_texts(count: int) -> list[str]:
    drawn = random.Random(3)
    return ["", " ", "  ", " a", *("".join(drawn.choices(SOME, k=drawn.randrange(8))) for _ in range(count))]


def changed(file: Path, **changes: Any) -> None:
    """JSON with some settings changed. None takes a setting away."""
    found = {**json.loads(file.read_text()), **changes} if file.exists() else changes
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of tokenizer_config.json, and of tokenizer.json
    "legacy": ({"tokenizer_class": "LlamaTokenizer", "legacy": True}, {}),
    "fast": ({"tokenizer_class": "LlamaTokenizerFast", "legacy": False}, {}),
    "silent": ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, {}),
    "no_prefix": ({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}, {}),
    "metaspace": ({"tokenizer_class": "LlamaTokenizer"}, {"normalizer": None, "pre_tokenizer": METASPACE}),
    "generic": ({"tokenizer_class": "PreTrainedTokenizerFast"}, {}),
    "without_a_class": ({"tokenizer_class": None}, {}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_text_that_begins_with_a_space_is_encoded_as_transformers_does(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    settings, content = VARIANTS[name]
    llama2_tokenizer(tmp_path)
    changed(tmp_path / "tokenizer_config.json", **settings)
    changed(tmp_path / "config.json", model_type="llama")
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **content}))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    prompt = "Q: 3 + 4 ?\nA:"
    before = theirs(prompt).input_ids
    for text in odd_texts(200):
        if "</s>" in text:  # which is plain text to Foray alone
            continue
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, repr(text)
        assert ours.encode_prompt(text) == theirs(text).input_ids
        assert ours.decode(ours.encode_prompt(text)) == theirs.decode(theirs(text).input_ids, skip_special_tokens=True)
        whole = theirs(prompt + text).input_ids
        if whole[: len(before)] == before:
            assert ours.encode_continuation(text) == whole[len(before) :], repr(text)
    spaced = ours.decode(ours.encode(" 5"))
    assert spaced == ("5" if name in ("legacy", "fast", "silent", "metaspace") else " 5")


def test_what_goes_on_gains_no_space_whatever_it_begins_with(tmp_path: Path) -> None:
    """This also holds if the first characters merge with the anchor that the text is encoded behind."""
    llama2_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    model = content["model"]
    for piece in ("\n", "\n\n", ":A"):
        model["vocab"][piece] = len(model["vocab"])
    model["merges"] = [["\n", "\n"], [":", "A"], *model["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    changed(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    tokenizer = load_tokenizer(tmp_path)
    space = tokenizer.tokenizer.token_to_id("▁")
    for text in ("\n5", "\n\n5", "A5", "5", "+", ":", "a"):
        assert space not in tokenizer.encode_continuation(text), repr(text)
        assert tokenizer.decode(tokenizer.encode_continuation(text)) == text
    assert tokenizer.encode_continuation(" 5")[0] == space


KINDS: dict[str, Callable[[Path], None]] = {
    "llama2": llama2_tokenizer, "llama3": llama3_tokenizer, "olmo": olmo_tokenizer, "qwen": qwen_tokenizer,
}  # fmt: skip


@pytest.mark.parametrize("name", ["own", *KINDS])
def test_the_quick_way_to_encode_gives_the_same_ids(tmp_path: Path, tokenizer: TextTokenizer, name: str) -> None:
    if name != "own":
        pytest.importorskip("transformers")
        KINDS[name](tmp_path)
        tokenizer = load_tokenizer(tmp_path)
    texts = [*odd_texts(300), "</s>", "a<|endoftext|>b", "<|begin|>a <|end|>", "x" * 5000]
    slow = [tokenizer.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert tokenizer.encode_batch(texts) == slow == [tokenizer.encode(text) for text in texts]


# --- documents that do not see one another --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own", *KINDS])
def test_documents_kept_apart_begin_as_prompts_begin(tmp_path: Path, tokenizer: TextTokenizer, name: str) -> None:
    """The separators are the end token, or end and beginning, for tokenizers with and without a token before a text."""
    if name != "own":
        pytest.importorskip("transformers")
        KINDS[name](tmp_path)
        tokenizer = load_tokenizer(tmp_path)
    wanted = {"own": (1, 1), "llama2": (2, 1), "llama3": (2, 1), "olmo": (1, 0), "qwen": (1, 0)}
    assert (len(tokenizer.separator), len(tokenizer.start)) == wanted[name]
    texts = [f"Q: {i} + {i} ?\nA: {2 * i}" for i in range(30)] + ["", "5"]
    flat = [t for text in texts for t in (*tokenizer.separator, *tokenizer.encode(text))]
    prompts = [tokenizer.encode_prompt(text) for text in texts]
    seen: list[list[int]] = []
    for length in (12, 17, 40):
        windows = np.array([flat[i : i + length + 1] for i in range(0, len(flat) - length, length)])
        batch = _documents(windows, tokenizer)
        assert batch.denominator == float(batch.weight.sum()) and len(batch.tokens) > len(windows)
        where = 0
        for window in windows.tolist():
            # every token is predicted once, by what stands before it in its own document
            begins = [i for i, t in enumerate(window) if t == tokenizer.end_id]
            inside = [i for i in range(1, length + 1) if not _starts(i, begins, tokenizer)]
            predicted: list[int] = []
            while len(predicted) < len(inside):
                n = int(batch.weight[where].sum())
                tokens, targets = batch.tokens[where, :n].tolist(), batch.targets[where, :n].tolist()
                assert tokens[1:] == targets[:-1] and tokenizer.end_id not in tokens[1:]
                if predicted or window[0] == tokenizer.end_id:  # not what is left of a document from before the window
                    begun = [*tokens, targets[-1]]
                    whole = [p for p in prompts if [*p, tokenizer.end_id][: len(begun)] == begun]
                    assert whole, (begun, "begins as no prompt begins")
                predicted += targets
                where += 1
            assert predicted == [window[i] for i in inside]
        assert where == len(batch.tokens)
        seen += batch.tokens.tolist()
    assert len(seen) > 60 and torch.is_tensor(batch.tokens)


def _starts(at: int, ends: list[int], tokenizer: TextTokenizer) -> bool:
    """Whether the token at ``at`` is a document's first input and no end token. Nothing predicts such a token."""
    before = len(tokenizer.separator) - len(tokenizer.start)
    return before > 0 and any(at == end + before for end in ends)


def test_a_tokenizer_that_cannot_be_written_is_an_error_of_the_file_system(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    """A full disk is such a case. The library's own exception is of a kind that no code catches."""
    with pytest.raises(OSError, match=r"gone/tokenizer\.json"):
        tokenizer.save(tmp_path / "gone", 96)
