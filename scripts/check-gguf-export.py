"""Holds a GGUF export against programs of others, on a machine that reaches PyPI (pip install gguf safetensors tokenizers numpy, and
llama-cpp-python, llama-cpp-py-sync or xllamacpp).

    check-gguf-export.py OUT model.gguf [--state model.prefix.state] [--text FILE] [--tokens 256] [--library FILE]

OUT is the checkpoint (llama, qwen2 or qwen3) that `pq export` made model.gguf from. Prints one line a check and exits with 1 if one fails:
weights as the gguf package dequantizes them, bit for bit; tokens, against Hugging Face tokenizers; logits of llama.cpp against a float32 forward pass over the checkpoint's own tensors, written here, without the prefix and with the
state (or the prefix as tokens); and that broken files are seen: Q/K rows in Hugging Face's order, their scales left behind, values interleaved in a byte, the sign of Q2_0's scale."""
import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import gguf
import numpy as np

import llama_cpp_library
from checkpoint_reference import Checkpoint, divergence, forward

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


class LlamaCpp(llama_cpp_library.Model):
    def after(self, ids, prefix=(), state=None):
        """Logits behind each of `ids`, which come after the prefix; None where llama.cpp does not load the state as these tokens."""
        prefix = list(prefix)
        self.forget()
        if state and self.load_state(state) != prefix:
            return None
        if prefix and not state:
            self.logits(prefix, len(prefix) - 1)
        return np.array(self.logits(ids))


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
    parser.add_argument("--library", type=pathlib.Path, help="a shared library with llama.cpp's functions; without it that of an installed package")
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
    library = llama_cpp_library.Library(options.library)
    llama = LlamaCpp(library, options.gguf, len(ids) + len(prefix) + 8)
    wrong = [s for s in TEXTS + [text] if llama.tokenize(s) != tokenizer.encode(s, add_special_tokens=False).ids]
    report("tokens", not wrong, f"equal on {len(TEXTS) + 1} texts" if not wrong else repr(wrong[0][:60]))
    plain = forward(checkpoint, ids, prefix=False)
    kl = divergence(plain, llama.after(ids))
    report("logits", kl < 1e-3, f"mean KL divergence {kl:.2e} over {len(ids)} tokens, no prefix")
    if prefix:
        behind = forward(checkpoint, ids, prefix=True)
        print(f"     from the checkpoint behind its 16-bit prefix: without a prefix {divergence(behind, llama.after(ids)):.2e}, with its tokens, whose K and V come from quantized weights, {divergence(behind, llama.after(ids, prefix)):.2e}")
        if options.state:
            logits = llama.after(ids, prefix, options.state)
            kl = np.inf if logits is None else divergence(behind, logits)
            report("prefix state", kl < 1e-3, f"mean KL divergence {kl:.2e}" if logits is not None else f"llama.cpp does not load it: {library.said('state', 'error')}")
    for name, path in broken_files(checkpoint, reader, options.gguf):
        broken = LlamaCpp(library, path, len(ids) + 8)
        kl = divergence(plain, broken.after(ids))
        broken.close()
        report(f"broken: {name}", kl > 1e-2, f"mean KL divergence {kl:.2e}")
        shutil.rmtree(path.parent)


if __name__ == "__main__":
    main()
    sys.exit(failures > 0)
