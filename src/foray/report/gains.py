"""The difference in pass@k of two models that a user names by their fields, at every M_t that has both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from foray.core.canonical import require
from foray.report.choose_row import chosen_rows
from foray.report.differences import Pairing, pair, passk_difference
from foray.report.measurements import Measurement, PassK
from foray.report.results import ANY, ANY_MODEL, Results, shots_rank

MODEL = ("tokens", "recipe", "variant", "mix", "model_parameters", "trained_on", "pretrain_seed", "seed")
# A field of these that nobody names may have any value: every M_t, and the mean over runs.
_EVERY = ("tokens", "pretrain_seed", "seed", "shots", "step")


def gains(results: Results, ours: Mapping[str, Any], theirs: Mapping[str, Any], task: str) -> pd.DataFrame:
    """pass@k of ``ours`` minus that of ``theirs``, a row an M_t and k, paired by problem, by the study's grading.

    Both name fields of a model (``recipe`` at least); what they must share is named in ``ours`` alone. Raises
    ValueError where there is no such model, or no M_t with both.
    """
    first = _named(results, {**ours, "task": task})
    one = first[0]
    # Runs find their own partners: all of them one base.
    shared = {"task": task, "mix": one.mix, "split": one.split, "model_parameters": _size(one, results)}
    shared |= {"trained_on": None if theirs["recipe"] == "base" else one.trained_on or None}
    shared |= {name: ours[name] for name in ("pretrain_seed", "shots", "temperature") if name in ours}
    second = _named(results, {**shared, **theirs})
    pairs = pair(first, second)
    words = f"study {results.study} has {one.recipe} and {theirs['recipe']} from no common M_t on {task}"
    require(bool(pairs), words)
    frames = [gains_of(pairs, k, results.extraction, _size(one, results)) for k in results.ks]
    names = {"variant": one.variant, "reference_variant": second[0].variant, "task": task}
    return pd.concat(frames, ignore_index=True).assign(**names, unit="share")


def gains_of(
    pairs: Mapping[int, Mapping[Pairing, tuple[PassK, PassK]]], k: int, extraction: str, parameters: int
) -> pd.DataFrame:
    """The differences of these pairs of models by M_t and run, one row an M_t."""
    found = []
    for tokens, of_runs in pairs.items():
        gain, (ours, theirs) = passk_difference(of_runs, k, extraction), list(of_runs.values())[-1]
        counts = len(gain.runs), len(gain.by_pretraining())
        names = (ours.recipe, theirs.recipe, theirs.shots, f"pass@{k}")
        found.append((tokens, tokens / parameters, *names, *gain.interval, *counts))
    columns = ["tokens", "tokens_per_parameter", "recipe", "reference", "reference_shots", "metric"]
    frame = pd.DataFrame(found, columns=[*columns, "value", "lo", "hi", "n", "runs", "pretrainings"])
    return frame.astype({"reference_shots": "Int64"})


def model_of(e: Measurement, results: Results) -> dict[str, Any]:
    """The fields that tell the measured model from others."""
    return {name: _size(e, results) if name == "model_parameters" else getattr(e, name) for name in MODEL}


def asked_of(e: PassK, results: Results) -> dict[str, Any]:
    """The same, with what the model was asked, and the folder of the answers."""
    fields: dict[str, Any] = {"task": e.task, "split": e.split, "shots": e.shots, "step": e.stage_step}
    fields["folder"] = e.folder
    if results.temperature is not None:
        fields["temperature"] = results.temperature if e.temperature is None else e.temperature
    return model_of(e, results) | fields


def evaluations(results: Results, final: Any) -> list[PassK]:
    """Every evaluation of every model, those at the study's temperature first: they are meant where none is named."""
    found = results.select(PassK, final=final, **ANY_MODEL, temperature=ANY)
    return sorted(found, key=lambda e: e.temperature is not None)


def _size(e: Measurement, results: Results) -> int:
    return e.model_parameters or results.model_parameters


def _named(results: Results, asked: Mapping[str, Any]) -> list[PassK]:
    """The evaluations of the recipe that ``asked`` names, at every M_t and of every run unless it names one.

    At the recipe's end and at its own number of shots, unless ``asked`` names others.
    """
    recipe, task, trained = asked["recipe"], asked["task"], results.trained_on(asked["task"])
    found = evaluations(results, final=ANY if asked.get("step") is not None else True)
    require(len(found) > 0, f"study {results.study} has no samples yet")
    known = any(e.recipe == recipe and e.task == task and e.trained_on == trained for e in found)
    own = {"trained_on": trained} if known and asked.get("trained_on") is None else {}
    rows = pd.DataFrame([asked_of(e, results) for e in found])
    rows = chosen_rows(rows, results.study, results.model_parameters, {**asked, **own}, _EVERY)
    alike = sorted((found[int(place)] for place in rows.index), key=lambda e: shots_rank(recipe, e.shots))
    return list({(e.tokens, e.run): e for e in alike}.values())
