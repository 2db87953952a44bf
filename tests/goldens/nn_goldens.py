"""Makes tests/goldens/nn: small random checkpoints of each family with the logits of Hugging Face transformers.

    pip install torch transformers safetensors
    python tests/goldens/nn_goldens.py [CASE ...]      # no CASE: all of them, and sample-model

Each NAME/ holds a checkpoint (config.json, model*.safetensors) and expected.safetensors: `tokens` [sequences, tokens]
and the float32 `logits` that follow them; with `prefix` [p], `prefixed_logits` are those after [prefix + tokens] run as
one sequence, at the positions of the tokens. Models with a window have no prefix: transformers lets it fall out of the
window. config_v4.json, where there is one, is the same config as transformers 4 spelled it. sample-model.safetensors
holds `rows` of the logits of examples/sample-model.
"""

import copy
import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "nn"
SAMPLE_MODEL = HERE.parent.parent / "examples" / "sample-model"

COMMON = dict(vocab_size=97, hidden_size=48, intermediate_size=88, max_position_embeddings=64, rms_norm_eps=1e-5,
              bos_token_id=1, eos_token_id=2, pad_token_id=None)


class Case(NamedTuple):
    config_class: type
    settings: dict
    prefix: list[int] | None = None
    dtype: torch.dtype = torch.float32  # of the weights
    small_dtype: torch.dtype = torch.float32  # of norms and biases
    shard: str | None = None  # largest file
    v4: dict | None = None  # the type in the rope_scaling of config_v4.json
    without: dict[str, dict | Callable] = {}  # what must move the logits: other settings, or a change of the model


def without_qk_norm(model):
    for layer in model.model.layers:
        layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()


def rope(theta, kind="default", **parameters):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **parameters))


def without_post_norms(model):
    for layer in model.model.layers:
        layer.post_attention_layernorm = layer.post_feedforward_layernorm = torch.nn.Identity()


def norm_each_head(model):
    def each_head(norm, x):
        heads = x.unflatten(-1, (-1, model.model.layers[0].self_attn.head_dim))
        scale = torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        return norm.weight * (heads * scale).flatten(-2)

    for layer in model.model.layers:
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
            norm.forward = functools.partial(each_head, norm)


SHORT_FACTOR = [1.0, 1.13, 1.38, 1.9, 2.25, 2.71]
LONG_FACTOR = [1.07, 1.64, 2.2, 3.05, 3.6, 3.98]
PHI3 = dict(num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=False,
            sliding_window=None, max_position_embeddings=128)


def longrope(original_max, **changed):
    parameters = dict(short_factor=SHORT_FACTOR, long_factor=LONG_FACTOR, partial_rotary_factor=0.75) | changed
    return dict(original_max_position_embeddings=original_max, **rope(10000.0, "longrope", **parameters))


GEMMA3_BLOCKS = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]


def gemma3_rope(factor=8.0, local=10000.0):
    return dict(rope_parameters=dict(full_attention=dict(rope_type="linear", factor=factor, rope_theta=1000000.0),
                                     sliding_attention=dict(rope_type="default", rope_theta=local)))


# Appended to, never reordered: a case's place is its seed.
CASES = {
    "llama-gqa": Case(
        transformers.LlamaConfig,
        dict(num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False,
             rope_theta=10000.0),
        [5, 13, 1]),
    "llama-tied-head-dim": Case(
        transformers.LlamaConfig,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=20, tie_word_embeddings=True,
             rope_theta=500000.0),
        [1], torch.float16),
    "mistral-window": Case(
        transformers.MistralConfig,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=12, sliding_window=7,
             tie_word_embeddings=False, rope_theta=10000.0),
        None, torch.bfloat16, torch.bfloat16, "40KB"),
    "qwen2-tied": Case(
        transformers.Qwen2Config,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
             rope_theta=1000000.0),
        [9, 9, 0], torch.bfloat16),
    "qwen2-window": Case(
        transformers.Qwen2Config,
        dict(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=False,
             use_sliding_window=True, sliding_window=5, max_window_layers=1, rope_theta=1000000.0),
        None, torch.float16, torch.float16),
    # head_dim 16; wavelengths 6.3 (kept), 13.7 and 29.7 (blended), 64.6 and above (divided)
    "llama-rope-llama3": Case(
        transformers.LlamaConfig,
        dict(num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
             max_position_embeddings=256,
             **rope(500.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                    original_max_position_embeddings=32)),
        [5, 13, 1], v4=dict(rope_type="llama3"),
        without={"rope llama3": rope(500.0), "blend": rope(500.0, "llama3", factor=8.0, low_freq_factor=1.0,
                                                           high_freq_factor=1.1, original_max_position_embeddings=32)}),
    "llama-rope-linear": Case(
        transformers.LlamaConfig,
        dict(num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=False,
             **rope(10000.0, "linear", factor=4.0)),
        [1], v4=dict(type="linear"), without={"rope linear": rope(10000.0)}),
    # frequencies are kept, blended with 1/3 and 2/3, and divided
    "qwen2-yarn": Case(
        transformers.Qwen2Config,
        dict(num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=False,
             **rope(20.0, "yarn", factor=4.0, original_max_position_embeddings=16)),
        [9, 9, 0], v4=dict(type="yarn"),
        without={"rope yarn": rope(20.0),
                 "attention factor": rope(20.0, "yarn", factor=4.0, original_max_position_embeddings=16,
                                          attention_factor=1.0),
                 "ramp": rope(20.0, "linear", factor=4.0)}),
    "qwen3": Case(
        transformers.Qwen3Config,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=20, tie_word_embeddings=True,
             **rope(1000000.0)),
        [9, 0], without={"q and k norms": without_qk_norm}),
    "ministral-window": Case(
        transformers.MinistralConfig,
        dict(num_hidden_layers=3, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
             tie_word_embeddings=False, **rope(10000.0)),
        without={"windows": dict(layer_types=["full_attention"] * 3),
                 "full block": dict(layer_types=["sliding_attention"] * 3)}),
    "phi3-longrope-short": Case(
        transformers.Phi3Config, PHI3 | longrope(32), [5, 13], v4=dict(type="longrope"),
        without={"short factors": longrope(32, short_factor=LONG_FACTOR),
                 "attention factor": longrope(32, attention_factor=1.0),
                 "rope longrope": rope(10000.0, partial_rotary_factor=0.75),
                 "partial rotary": longrope(32, partial_rotary_factor=1.0, short_factor=[*SHORT_FACTOR, 4.0, 4.0],
                                            long_factor=[*LONG_FACTOR, 4.0, 4.0])}),
    "phi3-longrope-long": Case(
        transformers.Phi3Config, PHI3 | longrope(8), [5, 13], v4=dict(type="longrope"),
        without={"long factors": longrope(8, long_factor=SHORT_FACTOR),
                 "attention factor": longrope(8, attention_factor=1.0)}),
    "phi3-window": Case(
        transformers.Phi3Config,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, sliding_window=6,
             tie_word_embeddings=False, original_max_position_embeddings=64, **rope(10000.0)),
        without={"window": dict(sliding_window=None)}),
    "smollm3": Case(
        transformers.SmolLM3Config,
        dict(num_hidden_layers=4, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2,
             no_rope_layers=[1, 0, 1, 1], tie_word_embeddings=True, **rope(2000000.0)),
        [3, 7],
        without={"block without rope": dict(no_rope_layers=[1] * 4),
                 "list's meaning": dict(no_rope_layers=[0, 1, 0, 0])}),
    "granite": Case(
        transformers.GraniteConfig,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, embedding_multiplier=6.0,
             residual_multiplier=0.4, attention_multiplier=0.11, logits_scaling=3.0, tie_word_embeddings=True,
             **rope(10000.0)),
        [1],
        without={"embedding multiplier": dict(embedding_multiplier=1.0),
                 "residual multiplier": dict(residual_multiplier=1.0),
                 "attention multiplier": dict(attention_multiplier=12 ** -0.5),
                 "logits scaling": dict(logits_scaling=1.0)}),
    "gemma3-window": Case(
        transformers.Gemma3TextConfig,
        dict(num_hidden_layers=4, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             query_pre_attn_scalar=24, hidden_activation="gelu_pytorch_tanh", sliding_window=6,
             layer_types=GEMMA3_BLOCKS, tie_word_embeddings=True, **gemma3_rope()),
        v4=dict(rope_type="linear"),
        without={"windows": dict(sliding_window=64), "rope linear": gemma3_rope(factor=1.0),
                 "local theta": gemma3_rope(local=1000000.0), "query_pre_attn_scalar": dict(query_pre_attn_scalar=16),
                 "gelu": dict(hidden_activation="silu"), "q and k norms": without_qk_norm,
                 "embedding scale": lambda model: model.model.embed_tokens.embed_scale.fill_(1.0)}),
    "olmo2": Case(
        transformers.Olmo2Config,
        dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
             **rope(500000.0)),
        [1],
        without={"q and k norms": without_qk_norm, "norm over all heads": norm_each_head,
                 "post-norms": without_post_norms}),
}


def randomize(model, generator):
    """Weights large enough that every part of the arithmetic moves the logits by far more than the tolerance."""
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name:
            tensor.data = 0.3 * noise if "gemma" in model.config.model_type else 1 + 0.3 * noise
        elif name.endswith("bias"):
            tensor.data = 0.5 * noise
        elif "embed_tokens" in name:
            tensor.data = noise if not model.config.tie_word_embeddings else 0.4 * noise
        else:
            tensor.data = 1.3 * noise / tensor.shape[1] ** 0.5


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.float().contiguous()


def model_of(case, settings, state=None):
    config = case.config_class(**COMMON | copy.deepcopy(settings))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    if state is not None:
        model.load_state_dict(state)
    return model


def check_without(case, state, tokens, logits):
    for what, change in case.without.items():
        model = model_of(case, case.settings | (change if isinstance(change, dict) else {}), state)
        if callable(change):
            change(model)
        moved = (logits_of(model, tokens) - logits).abs().max().item()
        print(f"  without {what}: {moved:.3f}")
        assert moved > 0.01, what


def spelled_for_v4(config, rope_type):
    """A config.json of transformers 5 with rotary settings and the pattern of windows as in transformers 4."""
    config = copy.deepcopy(config)
    scaling = config.pop("rope_parameters")
    if "full_attention" in scaling:
        config["rope_local_base_freq"] = scaling["sliding_attention"]["rope_theta"]
        scaling = scaling["full_attention"]
        del config["_sliding_window_pattern"]
        config["sliding_window_pattern"] = config.pop("layer_types").index("full_attention") + 1
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in scaling:
            config[key] = scaling.pop(key)
    if "original_max_position_embeddings" in config:
        del scaling["original_max_position_embeddings"]
    del scaling["rope_type"]
    config["rope_scaling"] = scaling | rope_type
    config["torch_dtype"] = "float32"
    config["transformers_version"] = "4.50.0"
    return config


def write_v4(case, directory, state, tokens, logits):
    config = json.loads((directory / "config.json").read_text())
    spelled = spelled_for_v4(config, case.v4)
    (directory / "config_v4.json").write_text(json.dumps(spelled, indent=1) + "\n")
    read = transformers.AutoConfig.from_pretrained(directory / "config_v4.json")
    model = transformers.AutoModelForCausalLM.from_config(read, attn_implementation="eager").float().eval()
    model.load_state_dict(state)
    assert torch.equal(logits_of(model, tokens), logits), "config_v4.json is another model"


def make(name):
    case = CASES[name]
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(list(CASES).index(name))
    model = model_of(case, case.settings)
    randomize(model, generator)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(case.dtype if parameter.dim() == 2 else case.small_dtype).float()

    tokens = torch.randint(0, COMMON["vocab_size"], (2, 19), generator=generator).tolist()
    expected = {"tokens": torch.tensor(tokens, dtype=torch.int32), "logits": logits_of(model, tokens)}
    if case.prefix is not None:
        expected["prefix"] = torch.tensor(case.prefix, dtype=torch.int32)
        rows = [case.prefix + row for row in tokens]
        expected["prefixed_logits"] = logits_of(model, rows)[:, len(case.prefix):].contiguous()
    print(name, "logits of standard deviation", round(expected["logits"].std().item(), 2))
    check_without(case, model.state_dict(), tokens, expected["logits"])

    state = copy.deepcopy(model.state_dict())
    if case.shard is None:
        model.config.save_pretrained(directory)
        tied = model.config.tie_word_embeddings
        tensors = {key: value.to(case.dtype if value.dim() == 2 else case.small_dtype).contiguous()
                   for key, value in state.items() if not (tied and key == "lm_head.weight")}
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    else:  # last: it rounds the rotary frequencies too
        model.to(case.dtype).save_pretrained(directory, max_shard_size=case.shard)
    (directory / "generation_config.json").unlink(missing_ok=True)
    written = json.loads((directory / "config.json").read_text())
    written["architectures"] = [type(model).__name__]
    (directory / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    if case.v4 is not None:
        write_v4(case, directory, state, tokens, expected["logits"])
    save_file(expected, directory / "expected.safetensors")


def make_sample():
    text = ("The harbour lay quiet under a thin morning mist. Two boats had come in before dawn,\nand their crews were"
            " already mending nets along the wall. Nobody spoke much. A dog slept across the doorway of the customs"
            " house, and the clock above it, which had been wrong for years, struck nine.\n")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(SAMPLE_MODEL / "tokenizer.json"))
    tokens = [1] + tokenizer(text, add_special_tokens=False).input_ids[:63]
    assert len(tokens) == 64
    model = transformers.AutoModelForCausalLM.from_pretrained(
        SAMPLE_MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    rows = [0, 1, 2, 11, 23, 37, 50, 63]
    save_file({"tokens": torch.tensor([tokens], dtype=torch.int32), "rows": torch.tensor(rows, dtype=torch.int32),
               "logits": logits_of(model, [tokens])[0, rows].contiguous()}, OUT / "sample-model.safetensors")


if __name__ == "__main__":
    for case in sys.argv[1:] or [*CASES, "sample-model"]:
        make_sample() if case == "sample-model" else make(case)
