"""Text sources, shards, and windows of a mixture as a function of (seed, step)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from foray.core import rng
from foray.core.canonical import content_hash
from foray.core.files import read_json, read_jsonl
from foray.data.corpus import Shard, mixed_windows, write_shard
from foray.data.text import JsonlText
from foray.data.text_source import TextSplit
from foray.data.tokenizer import END, TextTokenizer, load_tokenizer, train_tokenizer
from foray.study.kinds.tokens import SPARE, ShardNode, TokenizerNode
from foray.world import math_sources
from foray.world.general.prose import general_sources


@dataclass(frozen=True)
class Counting:
    """Documents of distinct numbers, so that no two windows are equal."""

    name: str
    count: int | None = None
    start: int = 0

    def documents(self, split: TextSplit) -> Iterator[str]:
        number = self.start
        while self.count is None or number < self.start + self.count:
            yield f"{split} {number} {number * 7919 % 99_991}"
            number += 1


def shard(source: Any, tokenizer: TextTokenizer, folder: Path, tokens: int) -> Shard:
    folder.mkdir(parents=True)
    write_shard(source, "train", tokenizer, folder, tokens)
    return Shard(folder)


@pytest.fixture
def shards(tokenizer: TextTokenizer, tmp_path: Path) -> dict[str, Shard]:
    return {
        name: shard(Counting(name, start=1000 * i), tokenizer, tmp_path / name, size)
        for i, (name, size) in enumerate([("a", 4001), ("b", 2501), ("c", 1801)])
    }


MIXTURE = [(2.0, "a"), (1.0, "b"), (1.0, "c")]


def test_a_shard_holds_the_documents_each_after_an_end_token(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    made = shard(Counting("x", count=700), tokenizer, tmp_path / "x", 1_000_000)
    rows = [t for d in Counting("x", count=700).documents("train") for t in (tokenizer.end_id, *tokenizer.encode(d))]
    assert made.read(0, made.size).tolist() == rows
    assert made.name == "x"


def test_an_endless_source_is_cut_at_the_wanted_size(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    assert shard(Counting("x"), tokenizer, tmp_path / "x", 997).size == 997


def test_a_source_without_documents_is_named(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text source x has no train documents"):
        shard(Counting("x", count=0), tokenizer, tmp_path / "x", 100)


def test_windows_cover_the_shard_once_and_targets_are_shifted_by_one(shards: dict[str, Shard]) -> None:
    a = shards["a"]
    assert a.windows(16) == 250
    windows = np.stack([a.window(i, 16) for i in range(250)])
    assert (windows[:, :-1].flatten() == a.read(0, 4000)).all()
    assert (windows[:, 1:].flatten() == a.read(1, 4001)).all()


def test_a_shard_shorter_than_a_window_is_named(shards: dict[str, Shard]) -> None:
    with pytest.raises(ValueError, match=r"text source c has 1801 tokens: too few for a window of 1801"):
        shards["c"].windows(1801)


def test_rows_do_not_depend_on_the_batch_they_are_drawn_in(shards: dict[str, Shard]) -> None:
    whole = mixed_windows(shards, MIXTURE, 8, 5, 0, 3000)  # beyond the first plan's size
    parts = [mixed_windows(shards, MIXTURE, 8, 5, first, 7) for first in (0, 700, 2100)]
    for first, part in zip((0, 700, 2100), parts):
        assert (whole[first : first + 7] == part).all()
    assert whole.shape == (3000, 9)


def test_the_seed_changes_the_order(shards: dict[str, Shard]) -> None:
    draws = [mixed_windows(shards, MIXTURE, 8, seed, 0, 50) for seed in (1, 1, 2)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_every_window_comes_once_before_any_comes_again(shards: dict[str, Shard], name: str) -> None:
    count = shards[name].windows(8)
    rows = [tuple(r) for r in mixed_windows(shards, [(1.0, name)], 8, 3, 0, 2 * count)]
    epoch = Counter(tuple(shards[name].window(i, 8)) for i in range(count))
    assert Counter(rows[:count]) == epoch == Counter(rows[count:])
    assert rows[:count] != rows[count:], "each epoch has an order of its own"


def test_within_a_mixture_a_source_does_not_repeat_early(shards: dict[str, Shard]) -> None:
    index = {n: {tuple(s.window(i, 16)): i for i in range(s.windows(16))} for n, s in shards.items()}
    assert all(len(index[n]) == s.windows(16) for n, s in shards.items()), "windows can be told apart"
    seen: dict[str, list[int]] = {n: [] for n in shards}
    for row in mixed_windows(shards, MIXTURE, 16, 11, 0, 600):
        (name,) = (n for n in shards if tuple(row) in index[n])
        seen[name].append(index[name][tuple(row)])
    for name, drawn in seen.items():
        first = drawn[: shards[name].windows(16)]
        assert len(set(first)) == len(first) > 100


def test_sources_are_drawn_by_weight(shards: dict[str, Shard]) -> None:
    index = {n: {tuple(s.window(i, 16)) for i in range(s.windows(16))} for n, s in shards.items()}
    rows = [tuple(r) for r in mixed_windows(shards, MIXTURE, 16, 11, 0, 4000)]
    share = {n: sum(r in index[n] for r in rows) / 4000 for n in shards}
    assert share == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25}, abs=0.03)  # four standard errors
    scaled = mixed_windows(shards, [(20.0, "a"), (10.0, "b"), (10.0, "c")], 16, 11, 0, 100)
    assert (scaled == np.array(rows[:100])).all()


def test_a_source_of_weight_zero_is_never_drawn(shards: dict[str, Shard]) -> None:
    only = mixed_windows(shards, [(0.0, "a"), (1.0, "b"), (0.0, "c")], 8, 1, 0, 500)
    index = {tuple(shards["b"].window(i, 8)) for i in range(shards["b"].windows(8))}
    assert all(tuple(r) in index for r in only)


# --- random numbers -------------------------------------------------------------------------------------------------


def test_counter_based_numbers_are_golden_and_uniform() -> None:
    assert rng.key(0, "corpus", "pretrain", 3) == 805583794151521551
    u = rng.uniform(7, np.arange(100_000, dtype=np.uint64))
    assert u.min() >= 0 and u.max() < 1
    assert np.histogram(u, bins=10, range=(0, 1))[0] == pytest.approx([10_000] * 10, abs=400)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02
    assert rng.key("a", "bc") != rng.key("ab", "c")


def test_neighboring_keys_give_unrelated_streams() -> None:
    n = np.arange(2000, dtype=np.uint64)
    a, b = rng.uniform(41, n), rng.uniform(42, n)
    for shift in range(4):
        assert abs(np.corrcoef(a[shift:], b[: 2000 - shift])[0, 1]) < 0.1


# --- JSON Lines -----------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def test_jsonl_text_splits_its_documents(tmp_path: Path) -> None:
    write_rows(tmp_path / "d" / "x.jsonl", [{"text": f"é {i}"} for i in range(1, 21)])
    source = JsonlText("x", "d/x.jsonl", holdout=5, root=str(tmp_path))
    held, kept = list(source.documents("validation")), list(source.documents("train"))
    assert held == ["é 5", "é 10", "é 15", "é 20"]
    assert len(kept) == 16 and not set(kept) & set(held)
    none = replace(source, holdout=0)
    assert len(list(none.documents("train"))) == 20 and not list(none.documents("validation"))


def test_the_hash_of_jsonl_text_is_of_its_content_not_its_place(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        write_rows(tmp_path / name / "x.jsonl", [{"text": text}])
    # A root of the study's own is bound before hashing, so the place must not be part of the key.
    hashes = {n: content_hash(JsonlText("x", "x.jsonl", root=str(tmp_path / n))) for n in "abc"}
    assert hashes["a"] == hashes["b"]
    assert hashes["a"] != hashes["c"]


def test_a_missing_file_names_the_fix(tmp_path: Path) -> None:
    source = JsonlText("x", "x.jsonl", root=str(tmp_path))
    with pytest.raises(ValueError, match=r"x\.jsonl does not exist.*--set data\.root=FOLDER"):
        list(source.documents("train"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', r"x\.jsonl, line 3: not JSON"),
        ('{"txt": "other field"}', r"x\.jsonl, line 3: no text in column 'text'"),
        ('{"text": NaN}', r"x\.jsonl, line 3: NaN, and no text in column 'text'"),
        ('{"text": 5}', r"x\.jsonl, line 3: no text in column 'text'"),
        ('{"text": "bad \\ud83d half"}', r"x\.jsonl, line 3: the text in .* half a surrogate pair \('\\ud83d'\)"),
        ("[]", r"x\.jsonl, line 3: no text in column 'text'"),
    ],
)
def test_damaged_rows_are_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n\n' + line + '\n{"text": "c"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        list(JsonlText("x", "x.jsonl", root=str(tmp_path)).documents("train"))
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl"):
        list(JsonlText("x", "x.jsonl", root=str(tmp_path)).documents("train"))


def test_damaged_json_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"source": ')
    with pytest.raises(ValueError, match=r"meta\.json is damaged"):
        read_json(tmp_path / "meta.json")
    (tmp_path / "rows.jsonl").write_text("{}\n{}\n{,}\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 3"):
        read_jsonl(tmp_path / "rows.jsonl")


# --- the tokenizer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "plain", "  two  spaces ", "tab\tand\nline\r\n\n", "naïve café — “q”", "日本語 𝔘𝔫𝔦 🙂", "\x00\x7f\u202e 123"],
)
def test_any_text_survives_the_tokenizer(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_batch([text])[0] == ids
    assert all(0 <= i < tokenizer.vocab_size for i in ids) and tokenizer.end_id not in ids


def test_the_end_token_spelled_out_is_plain_text(tokenizer: TextTokenizer) -> None:
    assert tokenizer.end_id not in tokenizer.encode(f"a{END}b")
    assert tokenizer.decode(tokenizer.encode(f"a{END}b")) == f"a{END}b"
    assert tokenizer.encode_prompt("a") == [tokenizer.end_id, *tokenizer.encode("a")]


def test_a_saved_tokenizer_is_the_same(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, 128)
    again = load_tokenizer(tmp_path)
    text = f"Q: 3 + 4 ?\nA: 3 and 4 make 7 ünï {END}"
    assert again.encode(text) == tokenizer.encode(text) and again.end_id == tokenizer.end_id


def test_no_text_is_cut_or_filled_up_as_a_published_tokenizer_says(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, 128)
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.enable_truncation(4)
    theirs.enable_padding(length=40, pad_id=7)
    theirs.save(str(tmp_path / "tokenizer.json"))
    texts = ["3", "3 and 4 make 7, and 5 and 6 make 11"]
    for own in (True, False):  # and as if it came from elsewhere
        if not own:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
        read = load_tokenizer(tmp_path)
        assert read.encode_batch(texts) == [read.encode(t) for t in texts] == [tokenizer.encode(t) for t in texts]
        assert (read.files is None) == own
    (tmp_path / "out").mkdir()
    read.save(tmp_path / "out", 128)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_training_a_tokenizer_is_deterministic() -> None:
    texts = list(islice(Counting("x").documents("train"), 300))
    a, b = (train_tokenizer(iter(texts), 300).tokenizer.to_str() for _ in range(2))
    assert a == b


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 257"):
        train_tokenizer(["a"], 256)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


# --- the world's own text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web", "flan", "wiki", "stories", "drills"])
def test_world_text_is_deterministic_and_its_splits_differ(name: str) -> None:
    def first(split: TextSplit) -> list[str]:
        return list(islice({**general_sources(), **math_sources()}[name].documents(split), 40))

    train, again, held = first("train"), first("train"), first("validation")
    assert train == again
    assert all(text.strip() for text in train)
    assert len(set(train)) > 35 and not set(train) & set(held)


def test_a_text_without_held_out_documents_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text("".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(40)))
    few = JsonlText("few", "few.jsonl", root=str(tmp_path))
    tokenizer = TokenizerNode(((1.0, few),), 300, 0)
    ShardNode(few, "train", tokenizer, 1000).check()
    with pytest.raises(ValueError, match=r"few has no validation documents: one in 50 is held out; .* smaller holdout"):
        ShardNode(few, "validation", tokenizer, 1000).check()
    ShardNode(replace(few, holdout=10), "validation", tokenizer, 1000).check()


def test_a_text_that_is_read_many_times_is_flagged(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"tokens": 1000}))
    asked = [ShardNode(Counting("numbers"), "train", None, SPARE + n) for n in (4_000, 58_000)]  # type: ignore[arg-type]
    assert [n.flags(tmp_path) for n in asked] == [[], ["training reads its 1,000 tokens about 58 times"]]
    held = replace(asked[1], split="validation")
    assert held.flags(tmp_path) == []
