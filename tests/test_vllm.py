"""vLLM in studies: keys, and the message without vLLM. ``make vllm-check`` adds runs that sample with vLLM."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import wide
from foray.core.batch import from_rows
from foray.core.engines import VLLM
from foray.core.files import read_jsonl
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.override import override
from foray.core.sources import Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import initialize
from foray.rollout.engine import EngineDied, Sampling
from foray.rollout.torch_engine import TorchEngine
from foray.rollout.vllm_engine import VLLMEngine
from foray.rollout.vllm_process import Sampler
from foray.studies import tiny
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.kinds import training
from foray.study.kinds.measures import PassKNode
from foray.study.node import Node
from foray.study.run import run_study
from foray.study.spec import Study
from foray.study.store import Store
from foray.train.scoring import token_logprobs
from test_study import ends, quiet, study

PYTHON = os.environ.get("FORAY_VLLM_PYTHON", "")
LAYOUT = VLLM(python=PYTHON)
HERE = ["post.rl.engine=vllm", *([f"post.rl.vllm.python={PYTHON}"] if PYTHON else [])]


def keys(made: Study) -> dict[tuple[str, str], set[str]]:
    """Keys of final results by (kind, recipe)."""
    out: dict[tuple[str, str], set[str]] = {}
    for e in expand(made).entries:
        out.setdefault((e.node.kind, e.recipe), set()).add(e.node.key)
    return out


def test_results_from_before_there_was_a_choice_keep_their_keys() -> None:
    """Keys of the first M_t of the tiny study of commit 3821fbd."""
    now = tiny.study()
    asked = {"task": now.evaluation.task, "questions": 8000}
    rollouts = Rollouts(**asked, prompts=32, group_size=8, max_new_tokens=80)
    rl = Stream("rl", rollouts, PolicyGradient(kl=0.05), AdamW(lr=8e-4, warmup=0.1))
    sft = Stream("sft", Demonstrations(**asked, batch_size=32), CrossEntropy(), AdamW(lr=1e-3, warmup=0.1))
    study = override(
        replace(now, post=PostTraining(rl, sft, 64, 320)), "evaluation.problems=300", "evaluation.top_p=1",
        "evaluation.cut_off=wrong", "pretrain.checkpoints=1500000,2700000",
    )  # fmt: skip
    made = {(e.recipe, e.node.kind): e.node.key for e in expand(study).entries if e.tokens == 1_500_000}
    assert made["rl", "train"] == "28344cbf95d81676" and made["rl", "passk"] == "361441cf42c1c0d8"
    assert made["sft", "train"] == "2649ecee1c706f98" and made["sft", "passk"] == "7d266544387742d9"


def test_the_engine_is_part_of_the_key_and_its_layout_is_not() -> None:
    plain, other = keys(study()), keys(override(study(), "post.rl.engine=vllm"))
    laid_out = override(study(), "post.rl.engine=vllm", "post.rl.vllm.tensor_parallel=4", "post.rl.vllm.python=there")
    assert keys(laid_out) == other
    for kind, recipe in plain:
        same = plain[kind, recipe] == other[kind, recipe]
        assert same == (recipe in ("base", "sft", "sft_gold") or kind == "contamination"), (kind, recipe)
    asked = keys(override(study(), "evaluation.engine=vllm", "evaluation.vllm.memory_share=0.8"))
    assert {kind for kind, recipe in plain if plain[kind, recipe] != asked[kind, recipe]} == {"passk"}


@pytest.mark.parametrize("setting", ["post.rl.engine=vllm", "evaluation.engine=vllm"])
def test_without_vllm_a_study_that_asks_for_it_does_not_begin(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs vLLM, which is not installed: pip install -e '\.\[vllm\]'"):
        run_study(override(study(), setting), Store(tmp_path), quiet())
    assert not list(tmp_path.glob("nodes/*"))


def test_a_python_without_vllm_is_named(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="there is no /nowhere/python"):
        VLLMEngine(config, tokenizer, VLLM(python="/nowhere/python"))
    bare = subprocess.run([sys.executable, "-c", "import vllm"], capture_output=True).returncode != 0
    if bare:
        with pytest.raises(ValueError, match=rf"{sys.executable} cannot import vLLM .*install"):
            VLLMEngine(config, tokenizer, VLLM(python=sys.executable))


def test_layouts_are_checked() -> None:
    for wrong in ({"tensor_parallel": 0}, {"memory_share": 0.0}, {"memory_share": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VLLM(**wrong)  # type: ignore[arg-type]


def brief(*settings: str) -> Study:
    """RL from one M_t. vLLM's attention on the CPU takes the heads of this model."""
    made = study(recipes=("rl",), model=replace(study().model, width=32, heads=1), excursions=(1536,))
    return override(replace(made, evaluation=replace(made.evaluation, contamination=0)), *settings)


def once(file: Path, act: Callable[[], None]) -> None:
    if not file.exists():
        file.touch()
        act()


def test_the_node_of_an_engine_that_dies_is_tried_again(
    tmp_path: Path, draw_only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only()
    whole = TorchEngine.generate

    def fail() -> None:
        raise EngineDied("vLLM's process died, exit code 1; its log ends:\n    out of memory")

    def generate(self: TorchEngine, *arguments: Any) -> Any:
        if self.version == 2:
            once(tmp_path / "died", fail)
        return whole(self, *arguments)

    monkeypatch.setattr(TorchEngine, "generate", generate)
    console = quiet()
    run_study(brief(), Store(tmp_path / "store"), console)
    assert isinstance(console.file, io.StringIO)
    assert "its worker died (vLLM's process died, exit code 1; its log ends:\n    out of memory)" in (
        console.file.getvalue()
    )
    monkeypatch.setattr(TorchEngine, "generate", lambda *_: fail())
    with pytest.raises(ValueError, match=r"3 workers died of it \(vLLM's process died, .*\n    out of memory\)"):
        run_study(brief(), Store(tmp_path / "other"), quiet())


class Recorded:
    """What vLLM is asked to do, in order, by a sampler on a card where it can sleep."""

    def __init__(self, calls: list[str], **settings: Any) -> None:
        self.calls, self.settings = calls, settings

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def record(*arguments: Any, **settings: Any) -> list[Any]:
            self.calls.append(name + ("(level=1)" if settings == {"level": 1} else ""))
            return []

        return record


@pytest.mark.parametrize("sleep", [True, False])
def test_on_a_shared_card_vllm_sleeps_between_draws(sleep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test has no card: a stand-in gets the requests in order."""
    calls: list[str] = []
    card = SimpleNamespace(is_cpu=lambda: False, is_sleep_mode_available=lambda: True)
    made = SimpleNamespace(LLM=lambda **settings: Recorded(calls, **settings), SamplingParams=dict)
    monkeypatch.setitem(sys.modules, "vllm", made)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "vllm.platforms", SimpleNamespace(current_platform=card))  # type: ignore[arg-type]
    sampler = Sampler("folder", "bfloat16", 128, tensor_parallel=2, memory_share=0.4, sleep=sleep)
    assert sampler.llm.settings["enable_sleep_mode"] == sleep
    ask = {"prompts": [[1]], "n": 1, "seeds": [1], "temperature": 1.0, "max_new_tokens": 4, "stop": [], "end_ids": [0]}
    ask |= {"top_p": 0.9, "top_k": 3, "min_p": 0.1}
    for _ in range(2):
        sampler.sync("weights")
        sampler.generate(**ask)  # type: ignore[arg-type]
    sampler.generate(**ask)  # type: ignore[arg-type]
    draw = ["collective_rpc", "reset_prefix_cache", "generate"]
    rest, wake = (["sleep(level=1)"], ["wake_up"]) if sleep else ([], [])
    assert calls == [*draw, *rest, *wake, *draw, *rest, *wake, "generate", *rest]


# From here on with vLLM itself.


@pytest.fixture
def one(config: ModelConfig, tokenizer: TextTokenizer) -> VLLMEngine:
    shape = replace(config, heads=1)
    engine = VLLMEngine(shape, tokenizer, LAYOUT)
    engine.sync(wide(initialize(shape, 3)).state_dict(), 1)
    return engine


def gone(pid: int, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.vllm
def test_an_engine_leaves_nothing_behind(one: VLLMEngine) -> None:
    pid, folder = one.process.pid, one.folder
    assert one.generate([[1, 2]], 2, Sampling(1.0, 4), [0])[0][0].policy_version == 1
    assert not (folder / "model.safetensors").exists(), "weights are read at once and removed"
    assert "memory is kept between draws" in (folder / "log").read_text()
    one._end()
    assert gone(pid) and not folder.exists()


@pytest.mark.vllm
def test_a_process_that_dies_says_how_with_the_end_of_its_log(one: VLLMEngine) -> None:
    with pytest.raises(EngineDied, match=r"died, exit code 1; its log ends:\n(.*\n)*.*no attribute 'nonsense'"):
        one._ask("nonsense")
    with pytest.raises(EngineDied, match="exit code 1"):
        one.generate([[1, 2]], 1, Sampling(1.0, 4), [0])


@pytest.mark.vllm
def test_spread_over_two_processes(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    """Weights reach workers that are processes of their own; the death of one of them is the engine's."""
    shape = replace(config, width=64)
    engine, model = VLLMEngine(shape, tokenizer, replace(LAYOUT, tensor_parallel=2)), wide(initialize(shape, 3))
    engine.sync(model.state_dict(), 1)
    made = engine.generate([[1, 2]], 8, Sampling(1.0, 16), [0])[0]
    batch = from_rows([[1, 2]] * 8, [c.tokens for c in made], [1.0] * 8, 1.0, behaviour=[c.logprobs for c in made])
    assert (token_logprobs(model, batch) - batch.behaviour).abs().max() < 1e-5
    children = Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children").read_text().split()
    os.kill(next(int(c) for c in children if "TP1" in Path(f"/proc/{c}/cmdline").read_text()), signal.SIGKILL)
    with pytest.raises(EngineDied):
        engine.generate([[1, 2]], 8, Sampling(1.0, 16), [0])
    assert all(gone(int(c)) for c in children)


@pytest.mark.vllm
def test_more_tokens_of_prompts_than_are_processed_at_once(one: VLLMEngine) -> None:
    prompts = [[1 + (i * j) % 250 for j in range(110)] for i in range(200)]
    groups = one.generate(prompts, 1, Sampling(1.0, 4), range(200))
    assert [c.tokens for c in one.generate(prompts[150:151], 1, Sampling(1.0, 4), [150])[0]] == [groups[150][0].tokens]


@pytest.mark.vllm
def test_what_vllm_cannot_sample_is_refused(one: VLLMEngine) -> None:
    with pytest.raises(ValueError, match=r"lowest temperature is 0\.01"):
        one.generate([[1, 2]], 1, Sampling(0.001, 4), [0])
    with pytest.raises(ValueError, match=r"highest temperature is 2\.0, not 2\.5"):
        one.generate([[1, 2]], 1, Sampling(2.5, 4), [0])
    with pytest.raises(ValueError, match="samples in fp32, not in bf16"):
        one.generate([[1, 2]], 1, Sampling(1.0, 4, precision="bf16"), [0])


@pytest.mark.vllm
def test_samples_follow_the_models_distribution(one: VLLMEngine, tokenizer: TextTokenizer) -> None:
    """First tokens of 6,000 samples against the model's probabilities: chi-squared over the likely ones."""
    model, n = wide(initialize(one.config, 3)), 6000
    prompt = tokenizer.encode_prompt("Q: 1 + 2 ?")
    for temperature in (1.0, 0.6):
        p = (model.logits(torch.tensor([prompt]))[0, -1] / temperature).softmax(0).detach().double()
        drawn = [c.tokens[0] for c in one.generate([prompt], n, Sampling(temperature, 1), [7])[0]]
        counts = torch.tensor(drawn).bincount(minlength=len(p)).double()
        likely = p * n > 5
        seen, expected = (torch.cat([x[likely], x[~likely].sum()[None]]) for x in (counts, p * n))
        chi2, freedom = float(((seen - expected) ** 2 / expected).sum()), len(seen) - 1
        assert freedom > 20 and chi2 < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.vllm
def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """This holds for any end of the parent. Here the parent is killed."""
    code = f"""
import time
from foray.core.engines import VLLM
from foray.data.tokenizer import train_tokenizer
from foray.model.config import ModelConfig
from foray.rollout.vllm_engine import VLLMEngine
from foray.rollout.vllm_process import Sampler
tokenizer = train_tokenizer(["a b c"], 257)
config = ModelConfig(width=32, layers=1, heads=1, mlp_width=32, vocab_size=tokenizer.vocab_size, context=64)
engine = VLLMEngine(config, tokenizer, VLLM(python={PYTHON!r}))
print(engine.process.pid, engine.folder, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split()
    parent.kill()
    parent.wait()
    assert gone(int(pid)) and not Path(folder).exists()


@pytest.mark.vllm
def test_a_node_whose_vllm_is_killed_is_tried_again_and_ends_the_same(
    tmp_path: Path, draw_only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only()
    made = brief(*HERE)
    run_study(made, Store(tmp_path / "calm"), quiet())
    whole = VLLMEngine.sync

    def sync(self: VLLMEngine, weights: Mapping[str, torch.Tensor], version: int) -> None:
        whole(self, weights, version)
        if version == 2:
            once(tmp_path / "killed", lambda: os.kill(self.process.pid, signal.SIGKILL))

    monkeypatch.setattr(VLLMEngine, "sync", sync)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    console = quiet()
    run_study(made, Store(tmp_path / "killed_once"), console)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "its worker died (vLLM's process died, killed by SIGKILL; its log ends:\n" in said
    assert "prefix cache" in said, "the last lines of its log"
    (end,) = (n for (_, recipe, _), n in ends(made).items() if recipe == "rl")
    calm, killed_once = (end.folder(Store(tmp_path / name)) for name in ("calm", "killed_once"))
    assert (calm / "model/model.safetensors").read_bytes() == (killed_once / "model/model.safetensors").read_bytes()
    rows = read_jsonl(killed_once / "metrics.jsonl")
    assert [r["step"] for r in rows] == [1, 2, 3, 4]
    measured = [r["rl/mismatch"] for r in rows if "rl/mismatch" in r]  # where a token was trained on
    assert measured and max(measured) < 1e-5


def learnable() -> Study:
    """A base that RL can teach in two dozen updates, without the rest of the tiny study."""
    made = tiny.study()
    corpus = replace(made.pretrain.stream.source, batch_size=4, length=304)
    pretrain = replace(
        made.pretrain, stream=replace(made.pretrain.stream, source=corpus), tokens=900_000, checkpoints=(900_000,)
    )
    evaluation = replace(
        made.evaluation, problems=64, samples=16, k=(1, 8), max_new_tokens=48, dynamics=None, contamination=0
    )
    return override(
        replace(made, pretrain=pretrain, recipes=("rl",), seeds=(0, 1, 2, 3), evaluation=evaluation),
        "post.rl_steps=24", "rl.lr=6e-4", "rl.prompts=16", "rl.max_new_tokens=48", "rl.validation=0",
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("learnable"))


@pytest.mark.vllm
def test_grpo_learns_what_it_learns_with_the_embedded_engine(store: Store) -> None:
    """Mean reward of the last 8 updates, four seeds each. Seeds alone explain the difference (99%)."""
    begun: dict[str, Any] = {}
    last: dict[str, np.ndarray] = {}
    for name, made in (("embedded", learnable()), ("vllm", override(learnable(), *HERE))):
        rewards = []
        for (_, recipe, _), end in sorted(ends(made).items(), key=lambda item: item[0]):
            if recipe != "rl":
                continue
            computed(end, store)
            rows = read_jsonl(end.folder(store) / "metrics.jsonl")
            rewards.append([r["rl/reward"] for r in rows])
            if name == "vllm":
                assert all(r["rl/mismatch"] < 1e-5 for r in rows if "rl/mismatch" in r)
                assert sum("rl/mismatch" in r for r in rows) > 20
        curves = np.array(rewards)  # (seeds, updates)
        begun[name], last[name] = curves[:, :3].mean(), curves[:, -8:].mean(1)
    k = len(last["vllm"])
    difference = float(last["vllm"].mean() - last["embedded"].mean())
    assert k == 4
    error = float(np.sqrt((last["vllm"].var(ddof=1) + last["embedded"].var(ddof=1)) / k))
    noise = 3.707 * error  # Student's t with 2 k - 2 = 6 degrees of freedom, at 99.5%
    rise = float(last["embedded"].mean() - begun["embedded"])
    print(json.dumps({"rewards": {n: v.round(3).tolist() for n, v in last.items()}, "begun": begun,
                      "difference": difference, "noise": noise, "rise": rise}))  # fmt: skip
    assert abs(difference) <= noise
    assert rise > 2 * noise, "or the comparison could not see a run that learns nothing"


def computed(node: Node, store: Store) -> Path:
    """The folder of the finished node. Runs the node and its parents if they are not done."""
    if not node.done(store):
        for parent in node.parents():
            computed(parent, store)
        run_node(node, store)
    return node.folder(store)


@pytest.mark.vllm
def test_pass_at_k_is_what_the_embedded_engine_finds(store: Store) -> None:
    """Both engines sample from one checkpoint. Sampling alone explains the difference in right samples a problem."""
    python = [f"evaluation.vllm.python={PYTHON}"] if PYTHON else []
    correct = []
    for settings in ([], ["evaluation.engine=vllm", *python]):
        (asked,) = (
            e.node
            for e in expand(override(learnable(), *settings)).entries
            if isinstance(e.node, PassKNode) and (e.recipe, e.seed) == ("rl", 0)
        )
        rows = read_jsonl(computed(asked, store) / "problems.jsonl")
        correct.append([r["correct"]["strict"] / r["samples"] for r in rows])
    embedded, vllm = np.array(correct)
    gap = vllm - embedded
    print(json.dumps({"pass@1": [embedded.mean(), vllm.mean()], "error": gap.std(ddof=1) / len(gap) ** 0.5}))
    assert (gap != 0).any() and min(embedded.mean(), vllm.mean()) > 0.02
    assert abs(gap.mean()) < 3 * gap.std(ddof=1) / len(gap) ** 0.5
