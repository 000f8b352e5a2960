"""The invented world's text and its six probes: what must hold for a probe to measure knowledge and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from foray.world.general import passages
from foray.world.general.facts import WorldSpec, outcome, world
from foray.world.general.prose import general_sources
from foray.world.general.questions import EASY_RANKS, PROBES, probe_rows, write_probes
from foray.world.general.sayings import phrasebook, relations
from foray.world.general.wording import templates, word_table, words

CHOICES = [name for name in PROBES if name != "world_lambada"]
SHARES = {"web": 0.5, "flan": 0.3, "wiki": 0.2}


def take(name: str, count: int, split: str = "train", spec: WorldSpec | None = None) -> list[str]:
    return list(islice(general_sources(spec)[name].documents(split), count))


@pytest.fixture(scope="module")
def sample() -> list[str]:
    """About 200,000 words in the default shares."""
    return [doc for name, share in SHARES.items() for doc in take(name, int(2_200 * share))]


def posed(name: str) -> Iterator[tuple[str, list[str], int]]:
    """(context, choices, right) of every question of a multiple-choice probe."""
    for row in probe_rows(name):
        if name == "world_hellaswag":
            yield row["ctx"], row["endings"], row["label"]
        elif name == "world_piqa":
            yield row["goal"], [row["sol1"], row["sol2"]], row["label"]
        else:
            asked = row.get("question", row.get("question_stem"))
            yield asked, row["choices"]["text"], row["choices"]["label"].index(row["answerKey"])


def test_documents_are_fixed_by_seed_and_split() -> None:
    for name in SHARES:
        assert take(name, 20) == take(name, 20)
        assert not set(take(name, 200)) & set(take(name, 200, "validation"))
    assert take("web", 5) != list(islice(general_sources(seed=1)["web"].documents("train"), 5))
    assert take("web", 5) != take("web", 5, spec=WorldSpec(seed=1))
    with pytest.raises(ValueError, match="train, validation"):
        next(general_sources()["web"].documents("test"))


def test_documents_are_clean_text_of_moderate_length(sample: list[str]) -> None:
    text = "\n".join(sample)
    assert 60 <= mean(len(doc.split()) for doc in sample) <= 200
    assert not re.search(r"[{}]|  | [.,?]|\.\.|\ba [aeio]|\b(the|a|in) \1\b", text), (
        "a slot left open or a slip of grammar"
    )
    assert all(doc == doc.strip() and doc.isascii() for doc in sample)


def test_exposure_falls_with_rank(sample: list[str]) -> None:
    text = "\n".join(sample)
    people = world(WorldSpec()).people
    counts = [text.count(person.name) for person in people]
    third = len(counts) // 3
    assert mean(counts[:third]) > 1.5 * mean(counts[third : 2 * third]) > 1.5 * mean(counts[2 * third :]) > 0


def test_easy_facts_are_told_a_few_times_in_three_million_tokens(sample: list[str]) -> None:
    """The test counts on a sample of some 270,000 tokens and scales up."""
    text = "\n".join(sample)
    told = []
    for category, members in phrasebook(WorldSpec()).items():
        for facts in members[: int(EASY_RANKS[1] * len(members))]:
            told += [sum(text.count(form) for form in fact.full) for fact in facts]
        assert len(relations(category)) == len(members[0])
    assert mean(told) * 11 > 30
    assert sum(count == 0 for count in told) < 0.2 * len(told)


def test_what_has_to_be_inferred_is_never_told(sample: list[str]) -> None:
    text = "\n".join(sample)
    place = world(WorldSpec())
    told = [p for p in place.people if p.told and f"{p.name} is at home in {place.region_of(p)}." in text]
    assert told
    for person in place.people:
        if not person.told:
            assert f"{person.name} is at home in" not in text and f"{person.name} lives by the river" not in text
    for creature in place.creatures:
        if not creature.told:
            cover = word_table("kinds")[creature.values["kind"]][0]
            assert f"{creature.name} has {cover}" not in text and f"{creature.name} have?\n" not in text
    for item, material in ((i, m) for i in words("items") for m in words("materials")):
        for event, where in templates("where").items():
            if passages.held_out(item, material, event):
                assert f"{item} of {material} {where}" not in text
                assert f"{where.capitalize()} a {item} of {material} {outcome(material, event)}" not in text


def test_probe_questions_are_not_in_training_text(sample: list[str]) -> None:
    text = "\n".join(sample)
    for name in CHOICES:
        asked = [context for context, _, _ in posed(name)]
        if name != "world_openbookqa":  # Rules of whole kinds are asked in a few fixed words.
            assert sum(context in text for context in asked) == 0, name
    assert not any(row["text"] in text for row in probe_rows("world_lambada"))


@pytest.mark.parametrize("name", list(PROBES))
def test_rows_are_many_different_and_fixed(name: str) -> None:
    rows = probe_rows(name)
    assert len(rows) == 200 == len({json.dumps(row) for row in rows})
    assert rows == PROBES[name](WorldSpec(), 200)


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_different_and_the_right_one_stands_anywhere(name: str) -> None:
    questions = list(posed(name))
    size = len(questions[0][1])
    assert size == (2 if name == "world_piqa" else 4)
    assert all(len(set(choices)) == size for _, choices, _ in questions)
    for count in Counter(right for _, _, right in questions).values():
        assert abs(count / len(questions) - 1 / size) < 4 * math.sqrt((size - 1) / size**2 / len(questions))


def baseline(name: str, value: Any) -> float:
    """Accuracy of always choosing the choice with the largest value, ties counted as shares."""
    hits = []
    for _, choices, right in posed(name):
        values = [value(choice) for choice in choices]
        best = [at for at, v in enumerate(values) if v == max(values)]
        hits.append((right in best) / len(best))
    return mean(hits)


@pytest.mark.parametrize("name", CHOICES)
def test_neither_length_nor_frequency_gives_the_answer(name: str, sample: list[str]) -> None:
    counts = Counter(re.findall(r"\w+", "\n".join(sample)))
    total = sum(counts.values())

    def likelihood(choice: str) -> float:
        return sum(math.log((counts[word] + 1) / total) for word in re.findall(r"\w+", choice))

    def mean_likelihood(choice: str) -> float:
        return likelihood(choice) / len(re.findall(r"\w+", choice))

    size = 2 if name == "world_piqa" else 4
    bound = 1 / size + 3.0 * math.sqrt((size - 1) / size**2 / 200)
    for value in (len, lambda choice: -len(choice), likelihood, mean_likelihood):
        assert baseline(name, value) < bound


def test_last_words_stand_in_the_passage_among_rivals() -> None:
    last, first_found = [], []
    for row in probe_rows("world_lambada"):
        passage, word = row["text"].rsplit(" ", 1)
        found = re.findall(r"\w+", passage)
        assert word in found
        assert not row["text"].endswith(".")
        rivals = [w for w in found if w in words("items") + words("pets") + words("foods") + words("instruments")]
        last.append(bool(rivals) and rivals[-1] == word)
        first_found.append(bool(rivals) and rivals[0] == word)
    assert mean(last) < 0.6 and mean(first_found) < 0.6


def test_answers_are_the_world_own(tmp_path: Path) -> None:
    place = world(WorldSpec())
    by_name = {entity.name: entity for members in place.lists.values() for entity in members}
    checked = 0
    for asked, choices, right in posed("world_arc_easy"):
        for name, entity in by_name.items():
            if re.search(rf"\b{name}\b", asked):
                assert choices[right] in entity.values.values()
                checked += 1
    assert checked >= 200
    files = write_probes(tmp_path)
    for name, file in files.items():
        assert [json.loads(line) for line in file.read_text().splitlines()] == probe_rows(name)


def test_other_sizes_work_and_impossible_ones_are_named() -> None:
    small = WorldSpec(people=16, places=8, things=24, goals=6, zipf=0.0)
    for name in PROBES:
        assert len(probe_rows(name, small, 40)) == 40
    assert len(take("wiki", 50, spec=small)) == 50
    with pytest.raises(ValueError, match=r"world\.people must be between"):
        WorldSpec(people=1)
    with pytest.raises(ValueError, match=r"world\.zipf"):
        WorldSpec(zipf=-1.0)
    with pytest.raises(ValueError, match="unknown probe"):
        probe_rows("world_mmlu")
