"""The colors of a user's own recipes: none looks like one of the paper's recipes, to any kind of eye."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from foray.report import style

# What an eye without one kind of cone sees, from linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "no long": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "no middle": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "no short": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)


def lab(color: str, eye: np.ndarray) -> np.ndarray:
    """The color in CIELAB, where a distance of 2 can just be seen."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(eye @ linear, 0.0, 1.0) / WHITE)  # none of the colors is near black
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(color: str) -> float:
    """The distance to the most similar color of the paper's recipes, for the eye that tells them apart least."""
    others = [known.color for known in style.LOOKS.values()]
    return min(float(np.linalg.norm(lab(color, e) - lab(o, e))) for e, o in itertools.product(EYES.values(), others))


@pytest.mark.parametrize("color", style._SPARE)
def test_a_recipe_of_the_users_own_has_a_color_unlike_those_of_the_papers(color: str) -> None:
    assert nearest(color) > 7.5


def test_a_primed_base_is_no_second_green() -> None:
    assert nearest(style.look("primed").color) > 15 and nearest("#44AA99") < 5
