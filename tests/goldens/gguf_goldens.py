"""Makes tests/goldens/gguf: GGUF files written by the `gguf` package, and what they hold.

blocks.gguf + blocks.safetensors   random blocks of every type that is read, and gguf.quants.dequantize of them
NAME.gguf                          the random checkpoint nn/NAME, converted with the package's own table of tensor names,
                                   with a small vocabulary
tokenizer-*.gguf + .json           small vocabularies of both kinds and the ids that Hugging Face's tokenizers give

Needs: pip install gguf numpy safetensors tokenizers. Deterministic."""
import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "gguf"
T = gguf.GGMLQuantizationType
BLOCK_TYPES = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]
# Where the float16 numbers of a block stand, so that random bytes give finite ones.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def add_vocabulary(writer, size):
    """Byte-level BPE of `size` tokens: bytes, then pairs of letters."""
    alphabet = [chr(c) for c in list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))]
    alphabet += [chr(256 + i) for i in range(256 - len(alphabet))]
    letters = "etaoinshrdlu"
    pairs = [(a, b) for a in letters for b in letters]
    singles = list(letters) + [c for c in alphabet if c not in letters]
    tokens = singles[:size - 20] + [a + b for a, b in pairs[:20]]
    merges = [f"{a} {b}" for a, b in pairs if a + b in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(merges)


def rows_as_pairs(weight, heads):
    """llama.cpp's order of the rows of Q and K for interleaved rotations."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(config):
    rope, d = config["rope_parameters"], config["head_dim"]
    inv = 1.0 / rope["rope_theta"] ** (np.arange(0, d, 2) / d)
    old, low, high, factor = (rope[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "factor"))
    out = []
    for f in inv:
        length = 2 * np.pi / f
        if length < old / high:
            out.append(1.0)
        elif length > old / low:
            out.append(factor)
        else:
            s = (old / length - low) / (high - low)
            out.append(1 / ((1 - s) / factor + s))
    return np.array(out, dtype=np.float32)


def convert(name, arch, pairs=False):
    source = HERE / "nn" / name
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", arch)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    full = rope.get("full_attention", rope)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(full.get("rope_theta", 10000.0))
    writer.add_rope_dimension_count(int(head_dim * full.get("partial_rotary_factor", config.get("partial_rotary_factor", 1))))
    if config.get("sliding_window") and arch in ("gemma3", "phi3"):
        writer.add_sliding_window(config["sliding_window"])
    if arch == "gemma3":
        writer.add_array("gemma3.attention.sliding_window_pattern", [t == "sliding_attention" for t in config["layer_types"]])
    if arch == "granite":
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    kind = full.get("rope_type", "default")
    if kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    elif kind == "longrope":
        writer.add_rope_scaling_orig_ctx_len(full.get("original_max_position_embeddings") or config["original_max_position_embeddings"])
        for length in ("long", "short"):
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(full[f"{length}_factor"], dtype=np.float32))
    elif kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(full["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
    for which in ("bos", "eos"):
        token = config.get(f"{which}_token_id")
        if token is not None:
            getattr(writer, f"add_{which}_token_id")(token[0] if isinstance(token, list) else token)
    add_vocabulary(writer, config["vocab_size"])
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], config["num_hidden_layers"])
    for tensor, value in tensors.items():
        if config.get("tie_word_embeddings") and tensor == "lm_head.weight":
            continue
        value = value.astype(np.float32)
        if pairs and ("q_proj" in tensor or "k_proj" in tensor):
            value = rows_as_pairs(value, heads if "q_proj" in tensor else kv_heads)
        if arch == "gemma3" and tensor.endswith("norm.weight"):
            value = value + 1
        writer.add_tensor(names.get_name(tensor, (".weight", ".bias")), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def blocks():
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(OUT / "blocks.gguf", "llama")
    expected = {}
    for kind in BLOCK_TYPES:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, per_row = 3, max(1, 512 // block)
        raw = random.integers(0, 256, (rows, per_row * size), dtype=np.uint8)
        view = raw.reshape(-1, size)
        for at in HALVES[kind]:
            values = (random.standard_normal(len(view)) * 10.0 ** random.integers(-7, 3, len(view))).astype(np.float16)
            view[:, at:at + 2] = values.view(np.uint8).reshape(-1, 2)
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
        expected[kind.name] = gguf.quants.dequantize(raw, kind).astype(np.float32)
    for kind, dtype in ((T.F32, np.float32), (T.F16, np.float16)):
        values = random.standard_normal((2, 5)).astype(dtype)
        writer.add_tensor(kind.name, values)
        expected[kind.name] = values.astype(np.float32)
    values = random.standard_normal((2, 6)).astype(np.float32)
    raw = gguf.quants.quantize(values, T.BF16)
    writer.add_tensor("BF16", raw, raw_dtype=T.BF16)
    expected["BF16"] = gguf.quants.dequantize(raw, T.BF16).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, OUT / "blocks.safetensors")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    blocks()
    convert("llama-rope-llama3", "llama", pairs=True)
    convert("qwen2-yarn", "qwen2")
    convert("qwen3", "qwen3")
    convert("phi3-longrope-short", "phi3")
    convert("smollm3", "smollm3", pairs=True)
    convert("granite", "granite", pairs=True)
    convert("gemma3-window", "gemma3")
    convert("olmo2", "olmo2")
