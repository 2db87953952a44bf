"""Makes the golden files of src/io's tests with the safetensors and transformers libraries.

    pip install numpy torch safetensors transformers
    python io_goldens.py

types.safetensors   one small tensor of every element type that is read, and float32 twins of the floating ones
plain.safetensors   what the library's own writer makes of two float32 tensors: ours must give the same bytes
configs.json        config.json contents and what transformers makes of them, absent fields and both rotary layouts included
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

HERE = pathlib.Path(__file__).parent / "io"


def make_types():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    values[0, 0], values[0, 1], values[0, 2], values[0, 3] = 0.0, -0.0, 3e-7, 65504.0
    tensors = {}
    for name, dtype in [("f64", torch.float64), ("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)]:
        tensors[name] = values.to(dtype)
        tensors[name + ".as_f32"] = values.to(dtype).to(torch.float32)
    for name, dtype in [("u8", torch.uint8), ("i8", torch.int8), ("i16", torch.int16), ("i32", torch.int32), ("i64", torch.int64)]:
        tensors[name] = torch.arange(6).reshape(2, 3).to(dtype)
    tensors["bool"] = torch.tensor([True, False])
    tensors["empty"] = torch.zeros(0, 3)
    tensors["scalar"] = torch.tensor(2.5)
    save_file(tensors, HERE / "types.safetensors", metadata={"format": "pt", "purpose": "golden"})


def make_plain():
    first = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    save_file({"first": first, "second": first[0] * -0.5}, HERE / "plain.safetensors", metadata={"format": "pt"})


BASE = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 200}
CASES = [
    {"model_type": "llama"},
    {"model_type": "llama", "num_key_value_heads": 2, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "head_dim": 16},
    {"model_type": "llama", "num_key_value_heads": None, "head_dim": None, "rope_scaling": None, "eos_token_id": [2, 7]},
    {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 250000.0}, "rope_theta": 10000.0},
    {"model_type": "llama", "rope_parameters": {"rope_type": "default"}, "rope_theta": 123456.0},
    {"model_type": "llama", "rope_scaling": {"type": "default"}, "rope_theta": 777.0, "tie_word_embeddings": True},
    {"model_type": "llama", "bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 4096},
    {"model_type": "mistral"},
    {"model_type": "mistral", "sliding_window": None, "num_key_value_heads": 4, "rope_theta": 1000000},
    {"model_type": "mistral", "sliding_window": 33, "num_key_value_heads": 4, "head_dim": 12},
    {"model_type": "qwen2", "num_key_value_heads": 2},
    {"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 40, "use_sliding_window": False, "max_window_layers": 1},
    {"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 40, "use_sliding_window": True, "max_window_layers": 2},
    {"model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": True, "max_window_layers": 0},
    {"model_type": "qwen2", "num_key_value_heads": 4, "sliding_window": None, "use_sliding_window": True, "max_window_layers": 0},
    {"model_type": "qwen2", "num_key_value_heads": None, "tie_word_embeddings": True, "bos_token_id": 11, "eos_token_id": 12},
    {"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1,
     "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
]


def layer_windows(config):
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        types = ["sliding_attention" if window is not None else "full_attention"] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else 0 for kind in types]


def make_configs():
    cases = []
    for case in CASES:
        config = {**BASE, **case}
        read = AutoConfig.for_model(**config)
        eos = read.eos_token_id
        cases.append({"config": config, "expected": {
            "kv_head_count": read.num_key_value_heads,
            "head_dim": getattr(read, "head_dim", None) or read.hidden_size // read.num_attention_heads,
            "max_positions": read.max_position_embeddings,
            "rms_norm_eps": read.rms_norm_eps,
            "rope_theta": float(read.rope_parameters["rope_theta"]),
            "tied_embeddings": read.tie_word_embeddings,
            "windows": layer_windows(read),
            "bos_token_id": read.bos_token_id,
            "eos_token_ids": [] if eos is None else eos if isinstance(eos, list) else [eos],
        }})
    (HERE / "configs.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    make_types()
    make_plain()
    make_configs()
