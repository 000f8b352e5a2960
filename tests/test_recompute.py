"""The independent check of a report agrees with a right report, and names what is wrong."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recompute
from foray.report import write_report
from test_report import Study


def store(root: Path) -> Path:
    """A study with two tasks, three RL seeds, 40 samples a problem, and its report without figures."""
    study, random = Study(root), np.random.default_rng(5)
    places = [("base", 0, 0, 8), ("base", 0, 0, 0), *(("rl", 50, s, 0) for s in range(3)), ("sft", 150, 0, 0)]
    places += [("parallel", 150, s, 0) for s in (1, 3)]
    for tokens, task, (recipe, step, seed, shots) in itertools.product((10**6, 4 * 10**6), ("easy", "hard"), places):
        rate = random.beta(1, 4, 30) * (1 if recipe == "base" else 1.5)
        texts, counts = [], []
        for i, chance in enumerate(rate.clip(0, 1)):
            right, form, cut = (random.random(40) < p for p in (chance, 0.8, 0.05))
            samples = [
                {
                    "text": "",
                    "correct": bool(c and f),
                    "lenient": bool(c),
                    "flexible": bool(c and not t),
                    "formatted": bool(f),
                    "stop": "length" if t else "end",
                }
                for c, f, t in zip(right, form, cut)
            ]
            texts.append({"id": f"p{i}", "question": "", "answer": "", "samples": samples})
            both = {"strict": int((right & form).sum()), "lenient": int(right.sum())}
            both |= {"flexible": int((right & ~cut).sum())}
            counts.append({"id": f"p{i}", "tags": [], "samples": 40, "correct": both,
                           "formatted": int(form.sum()), "truncated": int(cut.sum()), "tokens": 99})  # fmt: skip
        files: dict[str, Any] = {"completions.jsonl": texts, "problems.jsonl": counts}
        final = shots == (8 if recipe == "base" else 0)
        study.add(
            "passk",
            files,
            tokens=tokens,
            recipe=recipe,
            stage_step=step,
            seed=seed,
            shots=shots,
            task=task,
            final=final,
        )
        if recipe == "rl" and shots == 0:
            varied = {"variant": "longer", "against": "rl", "own": False}
            study.add("passk", files, tokens=tokens, recipe=recipe, stage_step=90, seed=seed, task=task, **varied)
    for recipe, step, right in (("base", 0, 0.5), ("rl", 50, 0.5), ("sft", 150, 0.3)):
        study.probes(right, tokens=10**6, recipe=recipe, stage_step=step)
    loss = {"nats_per_token": 3.2, "tokens": 77, "bytes": 200, "bits_per_byte": 3.2 * 77 / math.log(2) / 200}
    study.add("perplexity", {"perplexity.json": {"web": loss}}, tokens=10**6, recipe="rl", stage_step=50)
    text = {"perplexity.json": {"world_easy test": loss}}
    study.add("task_text", text, tokens=10**6, recipe="rl", stage_step=50, task="world_easy")
    write_report(study.write(), root / "report")
    return root


def test_a_report_agrees_and_each_falsified_number_is_named(
    tmp_path: Path, draw_only: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    draw_only()
    root = store(tmp_path)
    assert recompute.main([str(root)]) == 0
    assert "transition_curves.csv" in capsys.readouterr().out
    falsified = (
        ("results.csv", "hi"), ("transitions.csv", "passk_lo"), ("transition_curves.csv", "value"),
        ("comparisons.csv", "lo"), ("controls.csv", "d_top_hi"),
    )  # fmt: skip
    for name, column in falsified:
        path = root / "report" / name
        whole = path.read_text()
        rows = list(csv.DictReader(io.StringIO(whole)))
        rows[2][column] = f"{float(rows[2][column]) * 1.0001 + 1e-4:.6g}"
        with open(path, "w", newline="") as f:
            writer = csv.DictWriter(f, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        assert recompute.main([str(root)]) == 1
        assert f"{name}, line 4: {column} is {rows[2][column]}" in capsys.readouterr().err
        path.write_text(whole)
    path = root / "report" / "results.csv"
    whole = path.read_text()
    for right, wrong in ((",True,", ",False,"), (",False,", ",True,")):
        path.write_text(whole.replace(right, wrong, 1))
        assert recompute.main([str(root)]) == 1
        assert ": final is" in capsys.readouterr().err
    path.write_text(whole)
    assert recompute.main([str(root)]) == 0


def test_an_altered_completion_is_found(
    tmp_path: Path, draw_only: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    draw_only()
    root = store(tmp_path)
    path = sorted(root.glob("nodes/passk-*/completions.jsonl"))[0]
    path.write_text(path.read_text().replace('"lenient": false', '"lenient": true', 1))
    assert recompute.main([str(root)]) == 1
    assert "results.csv, line" in capsys.readouterr().err
    assert recompute.main([]) == recompute.main([str(root / "elsewhere")]) == 2
