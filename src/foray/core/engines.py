"""Settings of engines. The engine's name is part of a result's key, as are the settings of an engine of the user's own.

The layout of vLLM is not.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from foray.core.canonical import nearest, require, require_positive
from foray.core.field_types import require_types

EngineName = Literal["embedded", "vllm"]


@runtime_checkable
class OwnEngine(Protocol):
    """An engine of the user's own, where a name of Foray's may stand: a frozen dataclass of the engine's settings."""

    def open(self, model: Any, tokenizer: Any, precision: Any) -> Any:
        """A ``foray.rollout.engine.Engine`` for a ``Transformer``, a ``TextTokenizer``, and ``fp32`` or ``bf16``.

        ``sync`` gives the engine the model's weights before it samples.
        """
        ...


AnyEngine = EngineName | OwnEngine


def check_engine(engine: Any) -> None:
    """Raises ValueError for what is neither an engine's name nor an engine of the user's own."""
    own = isinstance(engine, OwnEngine) and not isinstance(engine, type)
    names = get_args(EngineName)
    how = ", or an object of a class of your own with open(model, tokenizer, precision)"
    require(engine in names or own, f"engine is {engine!r}{nearest(str(engine), names)}{how}")


@dataclass(frozen=True)
class VLLM:
    """The layout of vLLM on a machine. Results of two layouts differ by rounding only.

    ``tensor_parallel``: cards that one model is spread over. ``memory_share`` of each card is for vLLM's weights and
    cache. With ``sleep``, vLLM frees that memory between draws, for training on the same cards (not on a CPU).
    ``python``: the interpreter of an environment with vLLM; empty for the environment that Foray runs in.
    """

    tensor_parallel: int = 1
    memory_share: float = 0.4
    sleep: bool = True
    python: str = ""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "tensor_parallel")
        require(0 < self.memory_share <= 1, f"memory_share must lie in (0, 1], not {self.memory_share}")

    def check(self) -> None:
        """Raises ValueError that says what to install where there is no vLLM."""
        if self.python:
            require(Path(self.python).exists(), f"vllm.python: there is no {self.python}")
            return
        if importlib.util.find_spec("vllm") is None:
            raise ValueError(
                "engine=vllm needs vLLM, which is not installed: pip install -e '.[vllm]' in Foray's folder, or "
                "(on a CPU: make .venv-vllm/.done) name an environment that has it, --set "
                "rl.vllm.python=.venv-vllm/bin/python"
            )


def check_truncation(spec: Any) -> None:
    """Raises ValueError unless ``top_p``, ``top_k`` and ``min_p`` of ``spec`` can truncate a distribution."""
    require(0 < spec.top_p <= 1, f"top_p must be above 0 and at most 1 (1 keeps every token), not {spec.top_p}")
    require(spec.top_k >= 0, f"top_k must be a whole number >= 0 (0 keeps every token), not {spec.top_k}")
    require(0 <= spec.min_p < 1, f"min_p must be >= 0 and below 1 (0 keeps every token), not {spec.min_p}")


def truncates(spec: Any) -> bool:
    """Whether ``top_p``, ``top_k`` or ``min_p`` of ``spec`` leaves out tokens."""
    return bool(spec.top_p < 1 or spec.top_k or spec.min_p)
