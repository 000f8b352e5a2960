"""A study of real text: public-domain prose and GSM8K, from local files, on two cores.

    foray prepare gsm8k_small --data-root DATA --out DATA/gsm8k_small
    foray run gsm8k_small --set data.root=DATA

DATA holds ``gsm8k/train.jsonl``, ``gsm8k/test.jsonl`` and ``prose/standardebooks.jsonl``. Its folder ``general`` holds
files of the six benchmarks. A model of two million parameters and three million tokens solves next to nothing of GSM8K.
The study shows that the path from files to report is whole.
"""

from __future__ import annotations

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.data.prepare import load_mix, mixture
from foray.evals.benchmarks import Benchmarks
from foray.mixes.gsm8k_small import TASK
from foray.model.config import ModelConfig
from foray.study.spec import Data, Evaluation, Pretrain, Study, Variant

MODEL = ModelConfig(
    width=128, layers=4, heads=4, mlp_width=320, vocab_size=4096, context=768, rope_theta=1e4, init_std=0.1,
    embed_std=1.0,
)  # fmt: skip


def study() -> Study:
    pretrain = Stream(
        "pretrain",
        Corpus(mixture(load_mix("gsm8k_small"), "gsm8k_small"), batch_size=4, length=512, separate=True),
        CrossEntropy(z_loss=1e-5),
        AdamW(lr=8e-3, weight_decay=0.03, no_decay=("embed_tokens", "norm"), warmup=0.03, schedule="cosine"),
    )
    rollouts = Rollouts(TASK, questions=2000, prompts=16, group_size=8, max_new_tokens=160)
    rl = Stream("rl", rollouts, PolicyGradient(kl=0.05), AdamW(lr=6e-4, warmup=0.1))
    sft = Stream("sft", Demonstrations(TASK, questions=2000, batch_size=16), CrossEntropy(), AdamW(lr=1e-3, warmup=0.1))
    return Study(
        name="gsm8k_small",
        model=MODEL,
        data=Data(vocab_size=4096),
        pretrain=Pretrain(pretrain, tokens=3_000_000, checkpoints=(1_500_000, 3_000_000)),
        post=PostTraining(rl, sft, rl_steps=16, sft_steps=120),
        # As the authors ran them: only RL from the base has a KL term.
        recipes=("rl", "sft", *(Variant(r, ("rl.kl=0.0",), "") for r in ("sft_rl", "parallel"))),
        evaluation=Evaluation(
            TASK, problems=200, samples=8, k=(1, 8), max_new_tokens=160, base_shots=(2,),
            probes=Benchmarks(folder="general"), grading="flexible",
        ),
        notes=(
            "sft_gold and sft_gold_rl are left out: GSM8K has one solution a question, so SFT-Gold would be SFT.",
            "The benchmarks are parts of validation and test sets. They show differences between these models, and are "
            "not comparable with published scores.",
            "Bases are evaluated 2-shot, because more examples do not fit the length of the pre-training windows.",
        ),
    )  # fmt: skip
