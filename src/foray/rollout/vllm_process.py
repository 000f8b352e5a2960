"""The process that vLLM runs in. ``vllm_engine`` starts this file by its path. The file imports nothing else of Foray.

vLLM has a process of its own for three reasons. vLLM changes the program that imports it (transformers' classes, the
global generator, thread counts). vLLM may need another environment. A crash of vLLM must not end a training. Requests
and replies go through a socket, weights through a file in memory.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

ROWS = 512  # sequences that are sampled side by side
_BATCH_TOKENS = 8192  # tokens of prompts that are processed together

Sampled = tuple[list[int], list[float], str]  # tokens, their log-probabilities, the stop reason


class Weights:
    """Names and tensors of a safetensors file, read when iterated. Tensor-parallel workers get only the path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        from safetensors import safe_open

        with safe_open(self.path, "pt") as f:
            for name in f.keys():  # noqa: SIM118 (no mapping)
                yield name, f.get_tensor(name)


class Sampler:
    """vLLM with weights that are replaced in place. The methods are the requests."""

    def __init__(
        self, folder: str, dtype: str, context: int, tensor_parallel: int, memory_share: float, sleep: bool
    ) -> None:
        from vllm.platforms import current_platform

        cpu = current_platform.is_cpu()
        if cpu:  # compiling takes 10 s and gains nothing; this must come before vLLM decorates functions
            import torch._dynamo

            torch._dynamo.config.disable = True
        from vllm import LLM

        self.sleeps, self.asleep = sleep and current_platform.is_sleep_mode_available(), False
        if sleep and not self.sleeps:
            print("memory is kept between draws: vLLM's sleep mode needs a GPU", flush=True)
        self.llm = LLM(
            model=folder,
            load_format="dummy",  # the first ``sync`` brings the weights
            dtype=dtype,
            max_model_len=context,
            max_num_seqs=ROWS,
            **({"enforce_eager": True} | _whole_prompts(context) if cpu else {}),
            tensor_parallel_size=tensor_parallel,
            gpu_memory_utilization=memory_share,
            enable_sleep_mode=self.sleeps,
            generation_config="vllm",  # no sampling settings from the model's files
            logprobs_mode="processed_logprobs",  # of what is drawn from: logits / temperature, truncated
            disable_log_stats=True,
        )

    def sync(self, path: str) -> None:
        """Takes over the weights in a safetensors file."""
        self._wake()
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": Weights(path)})
        self.llm.reset_prefix_cache()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        seeds: Sequence[int],
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        max_new_tokens: int,
        stop: Sequence[str],
        end_ids: Sequence[int],
    ) -> list[Sampled]:
        """``n`` samples of every prompt. Each sample is a request with its own seed (P x n seeds)."""
        from vllm import SamplingParams

        self._wake()
        settings = [
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                max_tokens=max_new_tokens,
                seed=seed,
                stop=list(stop) or None,
                detokenize=bool(stop),
                skip_special_tokens=False,
                ignore_eos=True,  # ``end_ids`` count, not the end token of the model's files
                stop_token_ids=list(end_ids),
                logprobs=0,  # of the sampled token only
                flat_logprobs=True,
            )
            for seed in seeds
        ]
        rows = [{"prompt_token_ids": list(p)} for p in prompts for _ in range(n)]
        made = [out.outputs[0] for out in self.llm.generate(rows, settings, use_tqdm=False)]
        if self.sleeps:
            # Level 1 keeps the weights in main memory: another ``generate`` may follow without a ``sync``.
            self.llm.sleep(level=1)
            self.asleep = True
        return [(list(c.token_ids), list(c.logprobs.logprobs), _reason(c)) for c in made]

    def _wake(self) -> None:
        if self.asleep:
            self.llm.wake_up()
            self.asleep = False


def _whole_prompts(context: int) -> dict[str, Any]:
    """Settings under which vLLM processes every prompt whole: after a part, vLLM on the CPU loses a row's generator."""
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": max(_BATCH_TOKENS, context)}


def _reason(made: Any) -> str:
    """vLLM's ``stop_reason`` is the stop string, or the id of the end token."""
    if made.finish_reason != "stop":
        return "length"
    return "stop" if isinstance(made.stop_reason, str) else "end"


def _end_with(parent: int, folder: str) -> None:
    """Ends this process soon after its parent ends, for whatever reason, and removes the shared folder."""
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main(channel: Connection, parent: int, folder: str, settings: dict[str, Any]) -> None:
    """Says that vLLM is ready, then answers requests until the parent closes the channel."""
    threading.Thread(target=_end_with, args=(parent, folder), daemon=True).start()
    try:
        import vllm  # noqa: F401
    except ImportError as e:
        channel.send(("refused", f"{sys.executable} cannot import vLLM ({e}): install foray's extra 'vllm' there"))
        return
    sampler = Sampler(**settings)
    channel.send(("done", None))
    while True:
        try:
            request, arguments = channel.recv()
        except EOFError:
            sampler.llm.llm_engine.engine_core.shutdown()  # ends tensor-parallel workers
            os._exit(0)  # an ordinary exit of Python takes seconds here
        channel.send(("done", getattr(sampler, request)(**arguments)))


if __name__ == "__main__":
    _socket, _parent, _folder, _settings = sys.argv[1:]
    main(Connection(int(_socket)), int(_parent), _folder, json.loads(_settings))
