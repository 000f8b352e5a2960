"""TRL's ``GRPOTrainer``, one optimizer step a generation, as users run it. Variants: ``fp32``, ``bf16`` (autocast)."""

from __future__ import annotations

import queue
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from cases import Case, Prepared, reward
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class _Turns(TrainerCallback):
    """Lets the trainer take one step for every call of ``run``."""

    def __init__(self) -> None:
        self.go: queue.Queue[None] = queue.Queue()
        self.done: queue.Queue[None] = queue.Queue()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.done.put(None)
        self.go.get()


def prepare(case: Case, folder: Path, variant: str) -> Prepared:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    if case.kind == "study":
        from foray.studies import tiny
        from foray.train.supervised import training_questions

        source = tiny.study().post.rl.source
        problems = training_questions(source.task, source.questions)
        rows = [
            {"prompt": tokenizer.eos_token + source.task.prompt(p.question), "row": i} for i, p in enumerate(problems)
        ]
        newline = tokenizer.encode("\n", add_special_tokens=False)[-1]
        generation: dict[str, Any] = {"eos_token_id": [tokenizer.eos_token_id, newline]}

        def score(completions: list[str], row: list[int], **_: Any) -> list[float]:
            verdicts = (source.task.verify(problems[i], c.split("\n")[0]) for c, i in zip(completions, row))
            return [v.score + source.format_reward * v.formatted for v in verdicts]

    else:
        rows = [{"prompt": " ".join(f"t{t}" for t in p)} for p in case.token_prompts()] * 1000
        generation = {"min_new_tokens": case.new_tokens}

        def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
            assert all(len(ids) == case.new_tokens for ids in completion_ids)
            return [reward(ids) for ids in completion_ids]

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    size = case.prompts * case.samples
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=variant == "bf16", gradient_checkpointing=False, report_to=[],
        per_device_train_batch_size=size, num_generations=case.samples, steps_per_generation=1, num_iterations=1,
        max_completion_length=case.new_tokens, temperature=1.0, beta=0.0, max_steps=100_000,
        learning_rate=2e-4 if case.kind == "study" else 1e-6, lr_scheduler_type="constant",
        logging_steps=1_000_000, save_strategy="no", dataloader_num_workers=0, shuffle_dataset=False,
        generation_kwargs=generation, disable_tqdm=True,
    )  # fmt: skip
    turns = _Turns()
    trainer = GRPOTrainer(
        model, score, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[turns]
    )
    threading.Thread(target=trainer.train, daemon=True).start()
    first = True

    def run() -> int:
        nonlocal first
        if not first:
            turns.go.put(None)
        first = False
        turns.done.get()
        return size * case.new_tokens

    return Prepared(run)
