"""Holds a GGUF export against programs of others, on a machine that reaches PyPI (pip install gguf llama-cpp-python safetensors tokenizers numpy).

    check-gguf-export.py OUT model.gguf [--state model.prefix.state] [--text FILE] [--tokens 256]

OUT is the checkpoint (llama, qwen2 or qwen3) that `pq export` made model.gguf from. Prints one line a check and exits with 1 if one fails:
weights as the gguf package dequantizes them, bit for bit; tokens, against Hugging Face tokenizers; logits of llama.cpp against a float32 forward pass over the checkpoint's own tensors, written here, without the prefix and with the
state (or the prefix as tokens); and that broken files are seen: Q/K rows in Hugging Face's order, their scales left behind, values interleaved in a byte, the sign of Q2_0's scale."""
import argparse
import ctypes
import json
import pathlib
import shutil
import sys
import tempfile

import gguf
import numpy as np
from safetensors.numpy import load_file

LINEARS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
           "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
TEXTS = ["Hello world", "  two  spaces\tand\n\na newline", "I'll say 'quoted', we've DON'T", "12 345 6789 3.14e-5", "def f(x):\n    return x[0] != y",
         "Les élèves naïfs; Größe", "Привет, мир!", "日本語のテキスト 中文", "مرحبا שלום नमस्ते", "🙂👍🏽 ∑∫√"]
failures = 0

if 42 not in gguf.GGMLQuantizationType._value2member_map_:  # Q2_0, which the package's reader has to know of before it lists a file
    q2_0 = int.__new__(gguf.GGMLQuantizationType, 42)
    q2_0._name_, q2_0._value_ = "Q2_0", 42
    gguf.GGMLQuantizationType._value2member_map_[42] = q2_0
    gguf.constants.GGML_QUANT_SIZES[q2_0] = (64, 18)


def report(name, passed, detail):
    global failures
    failures += not passed
    print(f"{'ok  ' if passed else 'FAIL'} {name}: {detail}", flush=True)


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


def as_pairs(rows, heads):
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def dequantize(tensor, shape):
    if int(tensor.tensor_type) == 42:  # Q2_0, which the package does not know
        blocks = np.frombuffer(tensor.data.tobytes(), np.uint8).reshape(-1, 18)
        d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        q = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
        return (d * (q.reshape(len(blocks), 64).astype(np.float32) - 1)).reshape(shape)
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def check_weights(checkpoint, reader):
    different = []
    named = {t.name: t for t in reader.tensors}
    paired = checkpoint.config["model_type"] in ("llama", "mistral")
    for block in range(checkpoint.blocks):
        for linear, name in LINEARS.items():
            want = checkpoint.weight(f"model.layers.{block}.{linear}")
            if paired and name in ("attn_q", "attn_k"):
                want = as_pairs(want, checkpoint.heads if name == "attn_q" else checkpoint.kv_heads)
            if not np.array_equal(dequantize(named[f"blk.{block}.{name}.weight"], want.shape), want):
                different.append(f"blk.{block}.{name}")
    report("weights", not different, f"{len(LINEARS) * checkpoint.blocks} layers equal value for value" if not different else f"differ: {different[:4]}")


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
        apply = lambda name, h: h @ checkpoint.weight(p + name).T + t.get(p + name + ".bias", np.float32(0))
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


class LlamaCpp:
    def __init__(self, path, context):
        import llama_cpp
        self.api = llama_cpp
        self.model = llama_cpp.Llama(str(path), n_ctx=context, n_threads=1, logits_all=True, verbose=False, flash_attn=True)

    def logits(self, ids, prefix=(), state=None):
        model, prefix = self.model, list(prefix)
        model.reset()
        self.api.llama_memory_clear(self.api.llama_get_memory(model._ctx.ctx), True)
        if state:
            out, count = (self.api.llama_token * 64)(), ctypes.c_size_t()
            if not self.api.llama_state_seq_load_file(model._ctx.ctx, str(state).encode(), 0, out, 64, ctypes.byref(count)) or list(out[:count.value]) != prefix:
                return None
            model.n_tokens = len(prefix)
            model.input_ids[:len(prefix)] = prefix
        elif prefix:
            model.eval(prefix)
        model.eval(ids)
        return np.array(model.scores[len(prefix):len(prefix) + len(ids)])


def broken_files(checkpoint, reader, path):
    """(name, path) of files with one thing wrong in every Q and K, or every layer."""
    file = pathlib.Path(path).read_bytes()

    def damaged(name, change, only):
        data = bytearray(file)
        for tensor in reader.tensors:
            part = tensor.name.split(".")[-2]
            if part in only:
                rows = tensor.data.reshape(-1, tensor.data.shape[-1]).copy()
                data[tensor.data_offset:tensor.data_offset + tensor.n_bytes] = change(part, rows).tobytes()
        out = pathlib.Path(tempfile.mkdtemp()) / "broken.gguf"
        out.write_bytes(data)
        return name, out

    types = {t.name.split(".")[-2]: int(t.tensor_type) for t in reader.tensors if t.name.startswith("blk.0.")}
    size, head = {2: (18, 2), 3: (20, 4), 8: (34, 2), 42: (18, 2)}[types["attn_q"]]
    heads = {"attn_q": checkpoint.heads, "attn_k": checkpoint.kv_heads}

    def unpaired(part, rows):
        n = heads[part]
        return rows.reshape(n, len(rows) // n // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)

    def scales_left(part, rows):
        moved = unpaired(part, rows).reshape(len(rows), -1, size)
        kept = rows.reshape(len(rows), -1, size).copy()
        kept[..., :head] = moved[..., :head]
        return kept

    def interleaved(part, rows):
        blocks = rows.reshape(-1, size).copy()
        values = np.concatenate([blocks[:, head:] & 15, blocks[:, head:] >> 4], 1)
        blocks[:, head:] = values[:, 0::2] | values[:, 1::2] << 4
        return blocks

    def sign(part, rows):
        blocks = rows.reshape(-1, size).copy()
        blocks[:, 1] ^= 0x80
        return blocks

    if checkpoint.config["model_type"] in ("llama", "mistral"):
        yield damaged("Q/K rows in Hugging Face's order", unpaired, heads)
        yield damaged("scales of Q/K rows left behind", scales_left, heads)
    if types["attn_q"] in (2, 3):
        yield damaged("values 2i and 2i + 1 in byte i", interleaved, set(LINEARS.values()))
    if types["attn_q"] == 42:
        yield damaged("Q2_0's scale with the other sign", sign, set(LINEARS.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--state", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--no-llama-cpp", action="store_true", help="weights alone")
    options = parser.parse_args()
    checkpoint, reader = Checkpoint(options.checkpoint), gguf.GGUFReader(options.gguf)
    check_weights(checkpoint, reader)
    if options.no_llama_cpp:
        return
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(options.checkpoint / "tokenizer.json"))
    text = options.text.read_text()[2000:2000 + 8 * options.tokens] if options.text else " ".join(TEXTS)
    ids = tokenizer.encode(text, add_special_tokens=False).ids[:options.tokens]
    prefix = checkpoint.config["quantization_config"]["prefix"]["token_ids"]
    llama = LlamaCpp(options.gguf, len(ids) + len(prefix) + 8)
    wrong = [s for s in TEXTS + [text] if llama.model.tokenize(s.encode(), add_bos=False, special=False) != tokenizer.encode(s, add_special_tokens=False).ids]
    report("tokens", not wrong, f"equal on {len(TEXTS) + 1} texts" if not wrong else repr(wrong[0][:60]))
    plain = forward(checkpoint, ids, prefix=False)
    kl = divergence(plain, llama.logits(ids))
    report("logits", kl < 1e-3, f"mean KL divergence {kl:.2e} over {len(ids)} tokens, no prefix")
    if prefix:
        behind = forward(checkpoint, ids, prefix=True)
        as_tokens = divergence(behind, llama.logits(ids, prefix))
        print(f"     prefix as tokens, K and V through quantized weights: {as_tokens:.2e}")
        if options.state:
            logits = llama.logits(ids, prefix, options.state)
            kl = np.inf if logits is None else divergence(behind, logits)
            report("prefix state", kl < 1e-3, f"mean KL divergence {kl:.2e}" if logits is not None else "llama.cpp does not load it")
    for name, path in broken_files(checkpoint, reader, options.gguf):
        kl = divergence(plain, LlamaCpp(path, len(ids) + 8).logits(ids))
        report(f"broken: {name}", kl > 1e-2, f"mean KL divergence {kl:.2e}")
        shutil.rmtree(path.parent)


if __name__ == "__main__":
    main()
    sys.exit(failures > 0)
