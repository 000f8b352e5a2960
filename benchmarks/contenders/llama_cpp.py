"""llama.cpp by its own functions, as llama-cpp-python binds them. Variants: ``fp32`` and ``fp16`` weights and caches.

What it shares: the beginning that all prompts have is computed once a round, and a prompt once for its samples. In a
common cache sequences also keep these keys and values once, but each token is multiplied with those of all other
sequences too, and masked. So the samples of one prompt at a time are the best way for a long common beginning. Without
one, every sequence has a cache of its own, to which the prompt's is copied, and as many prompts go side by side as 256
sequences hold, which is the limit that llama.cpp is built with. Its samplers work on a sequence at a time, so tokens
are drawn here, from all rows at once. New weights are written as a GGUF file and loaded: llama.cpp has no other way in.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as lib
import numpy as np
from cases import Case, Groups, Prepared
from numpy.typing import NDArray
from safetensors.numpy import load_file

ROWS = 256  # sequences at once, the most that llama.cpp can take
BATCH = 2048  # tokens of a call, of prompts
TYPES = {
    "fp32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "fp16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
}


def prepare(case: Case, folder: Path, variant: str) -> Prepared:
    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    file, prompts, random = folder / f"{variant}.gguf", case.token_prompts(), np.random.default_rng(0)
    lib.llama_backend_init()
    lib.llama_log_set(_silent, ctypes.c_void_p())
    engine: list[_Engine] = []

    def new_weights() -> None:
        if engine:
            engine.pop().free()
        write_gguf(weights, config, file, variant)
        engine.append(_Engine(case, file, config["vocab_size"], variant))

    def run() -> Groups:
        return engine[0].sample(prompts, case, random)

    new_weights()
    return Prepared(run, new_weights)


@lib.llama_log_callback
def _silent(level: int, text: bytes, data: Any) -> None:
    pass


def write_gguf(weights: dict[str, NDArray[np.float32]], config: dict[str, Any], file: Path, variant: str) -> None:
    """The weights of an OLMo 2 model without a tokenizer: prompts come as token ids. Vectors stay in fp32."""
    dtype, kind = TYPES[variant]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.OLMO2, config["num_hidden_layers"])
    out = gguf.GGUFWriter(file, "olmo2")
    out.add_file_type(kind)
    out.add_tokenizer_model("none")
    out.add_vocab_size(config["vocab_size"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_theta"])
    for name, tensor in weights.items():
        kept = gguf.GGMLQuantizationType.F32 if tensor.ndim == 1 else dtype
        out.add_tensor(names.get_name(name, (".weight",)), gguf.quantize(tensor, kept), raw_dtype=kept)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class _Engine:
    """A loaded model with room for as many sequences of the case as go side by side."""

    def __init__(self, case: Case, file: Path, vocab_size: int, variant: str) -> None:
        self.vocab_size = vocab_size
        common = case.shared_tokens > 0
        self.together = 1 if common else max(1, min(ROWS // case.samples, case.prompts))  # prompts of a turn
        rows = self.together * case.samples
        length = case.shared_tokens + case.prompt_tokens + case.new_tokens
        self.model = lib.llama_model_load_from_file(str(file).encode(), lib.llama_model_default_params())
        settings = lib.llama_context_default_params()
        settings.n_seq_max, settings.n_ctx = rows, rows * length
        settings.n_batch, settings.n_ubatch = BATCH, BATCH // 4
        settings.n_threads = settings.n_threads_batch = int(os.environ["OMP_NUM_THREADS"])
        settings.kv_unified = common
        settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED  # takes twice as long here
        settings.type_k = settings.type_v = int(TYPES[variant][0])
        self.context = lib.llama_init_from_model(self.model, settings)
        assert self.model and self.context, f"{file} does not load"
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(BATCH, 0, 1)
        view = np.ctypeslib.as_array
        self.tokens, self.places = view(self.batch.token, (BATCH,)), view(self.batch.pos, (BATCH,))
        self.wanted = view(self.batch.logits, (BATCH,))
        view(self.batch.n_seq_id, (BATCH,))[:] = 1

    def free(self) -> None:
        lib.llama_batch_free(self.batch)
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)

    def feed(self, sequences: dict[int, list[int]], begin: int) -> NDArray[np.float32]:
        """Appends tokens to sequences that have ``begin`` tokens. Returns the logits behind each of them."""
        flat = [(s, begin + i, t, i == len(ids) - 1) for s, ids in sequences.items() for i, t in enumerate(ids)]
        found = []
        for first in range(0, len(flat), BATCH):
            part = flat[first : first + BATCH]
            for i, (sequence, place, token, last) in enumerate(part):
                self.batch.seq_id[i][0] = sequence
                self.tokens[i], self.places[i], self.wanted[i] = token, place, last
            if (count := sum(last for *_, last in part)) or first + BATCH >= len(flat):
                found.append(self.decode(len(part), count).copy())
            else:
                self.decode(len(part), 0)
        return np.concatenate(found)

    def decode(self, count: int, rows: int) -> NDArray[np.float32]:
        """Runs the first ``count`` tokens of the batch; ``rows`` of them have logits, until the next call."""
        self.batch.n_tokens = count
        failed = lib.llama_decode(self.context, self.batch)
        assert not failed, f"llama_decode says {failed}"
        if not rows:
            return np.empty((0, self.vocab_size), np.float32)
        return np.ctypeslib.as_array(lib.llama_get_logits(self.context), (rows, self.vocab_size))

    def sample(self, prompts: list[list[int]], case: Case, random: np.random.Generator) -> Groups:
        lib.llama_memory_clear(self.memory, False)
        shared = case.shared_tokens
        if shared:
            self.feed({0: prompts[0][:shared]}, 0)
        groups: Groups = []
        for first in range(0, len(prompts), self.together):
            groups += self.turn([p[shared:] for p in prompts[first : first + self.together]], case, random)
        return groups

    def turn(self, prompts: list[list[int]], case: Case, random: np.random.Generator) -> Groups:
        """Samples of some prompts, whose shared beginning sequence 0 holds. Sequence 0 holds it afterwards too."""
        n, shared, before = case.samples, case.shared_tokens, case.shared_tokens + case.prompt_tokens
        rows = len(prompts) * n
        for i in range(1, len(prompts)):
            lib.llama_memory_seq_cp(self.memory, 0, i * n, -1, -1)
        logits = self.feed({i * n: p for i, p in enumerate(prompts)}, shared)
        for s in range(rows):
            if s % n:
                lib.llama_memory_seq_cp(self.memory, s - s % n, s, -1, -1)
        tokens = np.empty((case.new_tokens, rows), np.int32)
        tokens[0] = drawn(np.repeat(logits, n, 0), random)
        for s in range(rows):
            self.batch.seq_id[s][0] = s
        self.wanted[:rows] = 1
        for t in range(1, case.new_tokens):
            self.tokens[:rows], self.places[:rows] = tokens[t - 1], before + t - 1
            tokens[t] = drawn(self.decode(rows, rows), random)
        for s in range(rows):
            lib.llama_memory_seq_rm(self.memory, s, shared if s == 0 else -1, -1)
        return [tokens[:, i * n : (i + 1) * n].T.tolist() for i in range(len(prompts))]


def drawn(logits: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int64]:
    """A token a row from the whole distribution: where the summed probability passes a random share of the sum."""
    summed = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
    point = random.random(len(logits), np.float32) * summed[:, -1]
    return np.minimum((summed <= point[:, None]).sum(1), logits.shape[1] - 1)
