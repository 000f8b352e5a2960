"""A recipe in a file of the user's own: `Study(..., recipes=(echo_then_rl,))`."""

from __future__ import annotations

from dataclasses import replace

from my_source import Echoes

from foray.core.stage import PostTraining, Recipe, Stage


def echo_then_rl(post: PostTraining) -> Recipe:
    echo = replace(post.sft, name="echo", source=Echoes())
    return Stage("echo", ((1.0, echo),), 2), Stage("rl", ((1.0, post.rl),), post.rl_steps)
