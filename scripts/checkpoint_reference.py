"""A quantized checkpoint (llama, qwen2 or qwen3) read with numpy alone, as docs/checkpoint-format.md says, and its logits in float32: what the checks of exports hold other programs against."""
import json
import sys

import numpy as np
from safetensors.numpy import load_file


class Checkpoint:
    def __init__(self, path):
        self.config = json.loads((path / "config.json").read_text())
        self.recipe = self.config["quantization_config"]["recipe"]
        self.tensors = {}
        for file in sorted(path.glob("*.safetensors")):
            self.tensors.update(load_file(file))
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        self.blocks = self.config["num_hidden_layers"]

    def weight(self, name):
        """[out, in] float32, as docs/checkpoint-format.md says."""
        t, format = self.tensors, self.recipe["weight"]
        if name + ".weight" in t:
            return t[name + ".weight"].astype(np.float32)
        codes, scales, bits = t[name + ".qweight"], t[name + ".scales"], format["bits"]
        columns = {"o_proj": self.heads * self.head_dim, "down_proj": self.config["intermediate_size"]}.get(name.split(".")[-1], self.config["hidden_size"])
        stream = np.unpackbits(codes, axis=1, bitorder="little")[:, :columns * bits].reshape(len(codes), columns, bits)
        q = (stream.astype(np.int32) << np.arange(bits)).sum(-1)
        groups = np.arange(columns) // (format["group"] if format["granularity"] == "group" else columns)
        zero = t[name + ".zero_points"].astype(np.int32)[:, groups] if not format["symmetric"] else 1 << (bits - 1)
        return (q - zero).astype(np.float32) * scales[:, groups]

    def rounded(self, x):
        """The input of a linear layer: dynamic activations, symmetric with a scale a token, are rounded; 16-bit ones stay."""
        format = self.recipe["activation"]
        if format["bits"] == 16:
            return x
        if format["mode"] != "dynamic" or not format["symmetric"] or format["granularity"] != "token":
            sys.exit("this script computes 16-bit activations, and dynamic ones that are symmetric with a scale a token")
        scale = np.abs(x).max(-1, keepdims=True) / np.float32((2 ** format["bits"] - 1) / 2)
        scale[scale == 0] = 1
        half = 2 ** (format["bits"] - 1)
        return np.clip(np.round(x / scale), -half, half - 1) * scale


def rope(x, first, theta):
    d = x.shape[-1]
    angles = np.outer(np.arange(first, first + x.shape[1]), theta ** (-np.arange(0, d, 2) / d))
    cos, sin = np.concatenate([np.cos(angles)] * 2, -1), np.concatenate([np.sin(angles)] * 2, -1)
    return x * cos + np.concatenate([-x[..., d // 2:], x[..., :d // 2]], -1) * sin


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def forward(checkpoint, ids, prefix):
    """Logits [tokens, vocab] in float32; `prefix`: behind the checkpoint's 16-bit K and V, whose positions come first."""
    t, config, d = checkpoint.tensors, checkpoint.config, checkpoint.head_dim
    if config.get("rope_scaling"):
        sys.exit("this script computes no scaled rotary embedding")
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    eps = config["rms_norm_eps"]
    x = t["model.embed_tokens.weight"].astype(np.float32)[ids]
    n = len(ids)
    for block in range(checkpoint.blocks):
        p = f"model.layers.{block}."
        apply = lambda name, h: checkpoint.rounded(h) @ checkpoint.weight(p + name).T + t.get(p + name + ".bias", np.float32(0))
        h = norm(x, t[p + "input_layernorm.weight"], eps)
        q, k, v = (apply(f"self_attn.{c}_proj", h).reshape(n, -1, d).swapaxes(0, 1) for c in "qkv")
        for c, y in (("q", q), ("k", k)):
            if p + f"self_attn.{c}_norm.weight" in t:
                y[:] = norm(y, t[p + f"self_attn.{c}_norm.weight"], eps)
        before = 0
        if prefix:
            keys, values = t[f"prefix.layers.{block}.key"].astype(np.float32), t[f"prefix.layers.{block}.value"].astype(np.float32)
            before = keys.shape[1]
        q, k = rope(q, before, theta), rope(k, before, theta)
        if prefix:
            k, v = np.concatenate([keys, k], 1), np.concatenate([values, v], 1)
        shared = checkpoint.heads // checkpoint.kv_heads
        scores = q @ k.repeat(shared, 0).swapaxes(1, 2) / np.sqrt(d)
        scores[:, np.arange(n)[:, None] + before < np.arange(n + before)[None]] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        attended = (scores / scores.sum(-1, keepdims=True)) @ v.repeat(shared, 0)
        x = x + apply("self_attn.o_proj", attended.swapaxes(0, 1).reshape(n, -1))
        h = norm(x, t[p + "post_attention_layernorm.weight"], eps)
        gate = apply("mlp.gate_proj", h)
        x = x + apply("mlp.down_proj", gate / (1 + np.exp(-gate)) * apply("mlp.up_proj", h))
    return norm(x, t["model.norm.weight"], eps) @ t["lm_head.weight"].astype(np.float32).T


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def divergence(reference, other):
    a, b = log_softmax(reference), log_softmax(other)
    return (np.exp(a) * (a - b)).sum(-1).mean()
