"""Weights in other formats than safetensors, recognized by file names. Foray never opens such files."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch

_SAVE = "load and save it with transformers (save_pretrained) to have safetensors"
_CONVERT = "convert it to safetensors with a library that reads it, or take a revision that has them"
# The first format found is named. Most checkpoints with several formats have pickles.
_FORMATS = (
    ("pickles", ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt", "*.pkl"), _SAVE),
    ("GGUF", ("*.gguf",), _SAVE.replace("transformers", "transformers' gguf_file")),
    ("TensorFlow's", ("*.h5", "*.ckpt.index", "*.ckpt.data-*", "saved_model.pb"), _CONVERT),
    ("Flax's", ("*.msgpack", "*.msgpack.index.json"), _CONVERT),
    ("ONNX", ("*.onnx", "*.onnx_data"), _CONVERT),
    ("NumPy's", ("*.npz", "*.npy"), _CONVERT),
    ("torch.distributed.checkpoint's", ("*.distcp",), _CONVERT),
)  # fmt: skip
_NO_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.*", "rng_state*")


def other_format(names: Iterable[str]) -> str:
    """The end of a sentence on a checkpoint with these files: its format, and what to do. Empty for no known format."""
    base = [name for path in names if not any(fnmatch(name := path.split("/")[-1], no) for no in _NO_WEIGHTS)]
    for what, patterns, advice in _FORMATS:
        for pattern in patterns:
            if any(fnmatch(name, pattern) for name in base):
                return f"holds its weights as {what} ({pattern}), which Foray does not open; {advice}"
    return ""
