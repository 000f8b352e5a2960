"""Excursions from Ai2's published checkpoints of OLMo 2 1B, without pre-training. For GPUs.

    foray run olmo2_public --set data.root=FOLDER

FOLDER holds ``gsm8k/train.jsonl`` and ``gsm8k/test.jsonl``. The checkpoints come from the Hugging Face hub (6 GB each,
in fp32). Post-training and evaluation follow the study that Foray re-creates, as far as GSM8K allows. Two differences
matter. The pre-training has 4T tokens, so an early checkpoint is far from the end of the learning-rate schedule. The
training text is OLMo-mix-1124, with less math than DOLMino.
"""

from __future__ import annotations

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.model.config import ModelConfig
from foray.study.spec import Data, Evaluation, Published, Study
from foray.tasks.gsm8k import GSM8K

# The model's own repository keeps stage 1 every 10,000 steps and at the end. The repository for early training keeps
# stage 1 every 1,000 steps up to 36,000. The names are branches; huggingface_hub.list_repo_refs(ID).branches lists all.
# The names below are from public scripts that load them: no hub could be reached when this file was written. Foray
# refuses a name that does not exist, and says the nearest name that does.
MODEL, EARLY = "allenai/OLMo-2-0425-1B", "allenai/OLMo-2-0425-1B-early-training"
REVISIONS = (
    (EARLY, 1_000, "stage1-step1000-tokens3B"),
    (EARLY, 2_000, "stage1-step2000-tokens5B"),
    (EARLY, 3_000, "stage1-step3000-tokens7B"),
    (EARLY, 5_000, "stage1-step5000-tokens11B"),
    (EARLY, 6_000, "stage1-step6000-tokens13B"),
    (MODEL, 10_000, "stage1-step10000-tokens21B"),
    (EARLY, 15_000, "stage1-step15000-tokens32B"),
    (MODEL, 20_000, "stage1-step20000-tokens42B"),
    (MODEL, 30_000, "stage1-step30000-tokens63B"),
    (MODEL, 100_000, "stage1-step100000-tokens210B"),
    (MODEL, 300_000, "stage1-step300000-tokens630B"),
    (MODEL, 1_000_000, "stage1-step1000000-tokens2098B"),
    (MODEL, 1_907_359, "stage1-step1907359-tokens4001B"),
)
TOKENS_A_STEP = 512 * 4096  # sequences x length; the names give tokens rounded up to billions


def study() -> Study:
    task = GSM8K()
    questions = 6682  # GSM8K's training questions without the tenth for validation
    # 1e-6 without a KL term, 8 rollouts a prompt and 512 rollouts a step lie in the middle of public GRPO recipes for
    # 1B models. The paper's code has 1e-6 too, with a KL term, 32 rollouts of 512 prompts and four updates a draw.
    rollouts = Rollouts(task, questions, prompts=64, group_size=8, max_new_tokens=512)
    rl = Stream("rl", rollouts, PolicyGradient(), AdamW(lr=1e-6, warmup=0.03), precision="bf16")
    # The rate and the five epochs are our choice. The rate is of the order of public recipes for SFT at this size.
    demonstrations = Demonstrations(task, questions, batch_size=64)
    adam = AdamW(lr=2e-5, warmup=0.03, schedule="linear", final=0.0)
    sft = Stream("sft", demonstrations, CrossEntropy(), adam, precision="bf16")
    return Study(
        name="olmo2_public",
        model=ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100_352, context=4096),
        data=Data(),
        pretrain=Published(tuple((source, revision, steps * TOKENS_A_STEP) for source, steps, revision in REVISIONS)),
        post=PostTraining(rl, sft, rl_steps=800, sft_steps=522),
        recipes=("rl", "sft", "sft_rl", "parallel"),
        evaluation=Evaluation(task, problems=1319, samples=32, k=(1, 8, 32), max_new_tokens=512, base_shots=(8,)),
        notes=(
            "The M_t are Ai2's checkpoints of OLMo-2-0425-1B, stage 1, from 2 billion tokens on: points of one run "
            "over 4 trillion tokens. At the early points the learning rate had hardly fallen.",
            "sft_gold and sft_gold_rl are left out: GSM8K has one solution a question, so SFT-Gold would be SFT.",
            "Held-out perplexity is of the task's text alone: the text that these models were trained on is not here.",
        ),
    )
