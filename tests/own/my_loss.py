"""An RL loss in a file of the user's own: `replace(post.rl, objective=Reinforce())`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foray.core.objectives import Scored


@dataclass(frozen=True)
class Reinforce:
    """-advantage x log p(token), and at most ``least`` nats of surprise a token."""

    least: float = -20.0

    def __call__(self, s: Scored) -> Tensor:
        return -s.advantage * s.logprobs.clamp(min=self.least)

    def contributes(self, weight: Tensor, advantage: Tensor) -> Tensor:
        return (weight != 0) & (advantage != 0)

    def metrics(self, s: Scored) -> dict[str, Tensor]:
        return {"surprise": -s.logprobs}
