"""The engine for larger models: vLLM in a process of its own. Every sync gives vLLM the trainer's weights.

vLLM's engine passes the tests of the embedded engines (``tests/test_engine.py``) with four exceptions. A seed gives
other samples. Log-probabilities come from vLLM's arithmetic: on the CPU in fp32 within 1e-5 of the trainer's, in bf16
and on GPUs farther away (``Rollouts`` logs the distance). A row's samples depend on the row's batch if rounding flips a
token. ``top_p`` cuts between equally likely tokens, which the embedded engines keep or leave together.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from foray.core import rng
from foray.core.engines import VLLM
from foray.core.machine import cards, gpus
from foray.core.scratch import let_go, own_folder
from foray.data.tokenizer import TextTokenizer
from foray.model import hf
from foray.model.config import ModelConfig
from foray.model.hf_config import save_config
from foray.rollout import vllm_process
from foray.rollout.engine import Completion, EngineDied, Sampling, check_prompts
from foray.rollout.stopping import Endings

_LOG_LINES = 12  # of vLLM's log that are shown when it has died
_HOTTEST = 2.0  # vLLM refuses higher temperatures
_COLDEST = 0.01  # vLLM raises lower temperatures to this one
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# vLLM's settings, unless the user's environment has them: the engine runs in the process that Foray watches, and
# reports no usage. On the CPU the cache has a GiB, and the scheduler places threads.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
# Variables of this process's group of ranks. With them vLLM would believe itself one of the ranks.
_OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class VLLMEngine:
    """Samples from the weights of the last ``sync``, with matrix products in ``precision``.

    vLLM's process ends with this object. Raises ValueError if vLLM is not installed. Raises EngineDied, with the last
    lines of vLLM's log, if the process dies.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: TextTokenizer,
        layout: VLLM = VLLM(),  # noqa: B008 (frozen)
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        layout.check()
        self.max_rows = 1 << 20  # vLLM queues rows itself
        self.config, self.tokenizer, self.precision, self.version = config, tokenizer, precision, 0
        self.endings = Endings(tokenizer, config.vocab_size)
        self.folder = _shared_folder(4 * config.parameters)
        save_config(config, self.folder, tokenizer.end_id, tokenizer.bos_id)
        tokenizer.save(self.folder, config.context)
        settings: dict[str, Any] = asdict(layout)
        python = settings.pop("python") or sys.executable
        settings |= {"folder": str(self.folder), "context": config.context}
        settings["dtype"] = str(_DTYPES[precision]).removeprefix("torch.")
        ours, theirs = socket.socketpair()
        self.channel = Connection(ours.detach())
        environment = _ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | os.environ
        for name in _OURS:
            environment.pop(name, None)
        if gpus():
            environment["CUDA_VISIBLE_DEVICES"] = cards(layout.tensor_parallel)
        with theirs, open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                # -P: nothing is imported from this package's folder
                [python, "-P", vllm_process.__file__, str(theirs.fileno()), str(os.getpid()), str(self.folder),
                 json.dumps(settings, allow_nan=False)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C reaches only this process, which ends vLLM's
            )  # fmt: skip
        self._end = weakref.finalize(self, _end, self.process, self.channel, self.folder)
        self._reply()

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        names = [n for n in weights if n != "lm_head.weight" or not self.config.tied]
        path = self.folder / "model.safetensors"
        try:
            hf.save_tensors({n: weights[n].detach().to("cpu", _DTYPES[self.precision]) for n in names}, path)
            self._ask("sync", path=str(path))
        finally:
            path.unlink(missing_ok=True)
        self.version = version

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        check_prompts(prompts, sampling, self.config.context)
        if 0 < sampling.temperature < _COLDEST:
            raise ValueError(f"vLLM's lowest temperature is {_COLDEST}, or 0 for greedy, not {sampling.temperature}")
        if sampling.temperature > _HOTTEST:
            raise ValueError(f"vLLM's highest temperature is {_HOTTEST}, not {sampling.temperature}")
        if sampling.precision != self.precision:
            raise ValueError(f"this engine samples in {self.precision}, not in {sampling.precision}")
        rows = self._ask(
            "generate",
            prompts=[list(p) for p in prompts],
            n=n,
            seeds=[rng.key(seed, j) for seed in seeds for j in range(n)],
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_new_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop),
            end_ids=[i for i in self.tokenizer.end_ids if i < self.config.vocab_size],
        )
        tokens, logprobs, said = zip(*rows) if rows else ((), (), ())
        groups = self.endings.completions(tokens, logprobs, n, sampling.stop, self.version)
        reasons = iter(said)
        # vLLM may spell a text otherwise than Foray's tokenizer, and find a stop string that Foray's text does not
        # have.
        return [
            [replace(c, stop_reason="stop") if next(reasons) == "stop" != c.stop_reason else c for c in group]
            for group in groups
        ]

    def _ask(self, request: str, **arguments: Any) -> Any:
        try:
            self.channel.send((request, arguments))
        except OSError:
            raise EngineDied(self._how_it_ended()) from None
        return self._reply()

    def _reply(self) -> Any:
        try:
            # Tensor-parallel workers may hold the channel open after vLLM's process has died.
            while not self.channel.poll(1.0):
                if self.process.poll() is not None and not self.channel.poll():
                    raise EngineDied(self._how_it_ended())
            kind, value = self.channel.recv()
        except (EOFError, ConnectionResetError):
            raise EngineDied(self._how_it_ended()) from None
        if kind == "refused":
            raise ValueError(value)
        return value

    def _how_it_ended(self) -> str:
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "".join(f"\n    {line}" for line in lines[-_LOG_LINES:])
        return f"vLLM's process died, {how}; its log ends:{tail}"


def _end(process: subprocess.Popen[bytes], channel: Connection, folder: Path) -> None:
    channel.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    let_go(folder)


def _shared_folder(size: int) -> Path:
    """A new private folder: in memory if there is room for twice ``size`` bytes, else on the disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * size
    return own_folder("foray-vllm-", memory if roomy else None)
