"""Makes tests/goldens/nn: small random checkpoints of each family with the logits that Hugging Face transformers computes.

    pip install torch transformers safetensors
    python tests/goldens/nn_goldens.py

Each NAME/ holds a checkpoint (config.json, model*.safetensors) and expected.safetensors: `tokens` [sequences, tokens] and the
float32 `logits` that follow them; with `prefix` [p], `prefixed_logits` are those after [prefix + tokens] run as one sequence, at
the positions of the tokens. sample-model.safetensors holds `rows` of the logits of examples/sample-model.
"""

import json
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "nn"
SAMPLE_MODEL = HERE.parent.parent / "examples" / "sample-model"

COMMON = dict(vocab_size=97, hidden_size=48, intermediate_size=88, max_position_embeddings=64, rms_norm_eps=1e-5,
              bos_token_id=1, eos_token_id=2, pad_token_id=None)

# name: (config class, settings, dtype of the weights, dtype of norms and biases, largest shard, prefix)
CASES = {
    "llama-gqa": (transformers.LlamaConfig,
                  dict(num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False,
                       rope_theta=10000.0),
                  torch.float32, torch.float32, None, [5, 13, 1]),
    "llama-tied-head-dim": (transformers.LlamaConfig,
                            dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=20,
                                 tie_word_embeddings=True, rope_theta=500000.0),
                            torch.float16, torch.float32, None, [1]),
    "mistral-window": (transformers.MistralConfig,
                       dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=12, sliding_window=7,
                            tie_word_embeddings=False, rope_theta=10000.0),
                       torch.bfloat16, torch.bfloat16, "40KB", None),
    "qwen2-tied": (transformers.Qwen2Config,
                   dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
                        rope_theta=1000000.0),
                   torch.bfloat16, torch.float32, None, [9, 9, 0]),
    "qwen2-window": (transformers.Qwen2Config,
                     dict(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=False,
                          use_sliding_window=True, sliding_window=5, max_window_layers=1, rope_theta=1000000.0),
                     torch.float16, torch.float16, None, None),
}


def randomize(model, generator):
    """Weights large enough that every part of the arithmetic moves the logits by far more than the tolerance."""
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name:
            tensor.data = 1 + 0.3 * noise
        elif name.endswith("bias"):
            tensor.data = 0.5 * noise
        elif "embed_tokens" in name:
            tensor.data = noise if not model.config.tie_word_embeddings else 0.4 * noise
        else:
            tensor.data = 1.3 * noise / tensor.shape[1] ** 0.5


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.float().contiguous()


def make(name, seed):
    config_class, settings, dtype, small_dtype, shard, prefix = CASES[name]
    directory = OUT / name
    directory.mkdir(parents=True)
    config = config_class(**COMMON, **settings)
    generator = torch.Generator().manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomize(model, generator)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype if parameter.dim() == 2 else small_dtype).float()

    tokens = torch.randint(0, COMMON["vocab_size"], (2, 19), generator=generator).tolist()
    expected = {"tokens": torch.tensor(tokens, dtype=torch.int32), "logits": logits_of(model, tokens)}
    if prefix is not None:
        expected["prefix"] = torch.tensor(prefix, dtype=torch.int32)
        expected["prefixed_logits"] = logits_of(model, [prefix + row for row in tokens])[:, len(prefix):].contiguous()

    if shard is None:
        config.save_pretrained(directory)
        tied = config.tie_word_embeddings
        tensors = {key: value.to(dtype if value.dim() == 2 else small_dtype).contiguous()
                   for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        model.to(dtype).save_pretrained(directory, max_shard_size=shard)  # last: it rounds the rotary frequencies too
    (directory / "generation_config.json").unlink(missing_ok=True)
    written = json.loads((directory / "config.json").read_text())
    written["architectures"] = [type(model).__name__]
    (directory / "config.json").write_text(json.dumps(written, indent=1) + "\n")

    save_file(expected, directory / "expected.safetensors")
    print(name, "logits of standard deviation", round(expected["logits"].std().item(), 2))


def make_sample():
    text = ("The harbour lay quiet under a thin morning mist. Two boats had come in before dawn,\nand their crews were already"
            " mending nets along the wall. Nobody spoke much. A dog slept across the doorway of the customs house, and the"
            " clock above it, which had been wrong for years, struck nine.\n")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(SAMPLE_MODEL / "tokenizer.json"))
    tokens = [1] + tokenizer(text, add_special_tokens=False).input_ids[:63]
    assert len(tokens) == 64
    model = transformers.AutoModelForCausalLM.from_pretrained(SAMPLE_MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    rows = [0, 1, 2, 11, 23, 37, 50, 63]
    save_file({"tokens": torch.tensor([tokens], dtype=torch.int32), "rows": torch.tensor(rows, dtype=torch.int32),
               "logits": logits_of(model, [tokens])[0, rows].contiguous()}, OUT / "sample-model.safetensors")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for index, case in enumerate(CASES):
        make(case, index)
    make_sample()
