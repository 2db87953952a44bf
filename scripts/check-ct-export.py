"""Holds a compressed-tensors export against transformers on the CPU, on a machine that reaches PyPI (pip install torch transformers compressed-tensors accelerate safetensors numpy).

    check-ct-export.py OUT DIR [--text FILE] [--tokens 256]

OUT is the checkpoint (llama, qwen2 or qwen3; dynamic or 16-bit activations) that `pq export` made DIR from. Prints one line a check and exits with 1 if one fails: weights as compressed-tensors decompresses them, bit for bit; the prefix
in front of what the tokenizer gives; every linear layer's output, and logits in float32, against numpy over OUT's own tensors; and that codes in another order are seen."""
import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from checkpoint_reference import Checkpoint, divergence, forward

LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
PROSE = "The tower stands on a hill above the old town, and from its top one can see the river, the fields and, on clear days, the sea."
failures = 0


def report(name, passed, detail):
    global failures
    failures += not passed
    print(f"{'ok  ' if passed else 'FAIL'} {name}: {detail}", flush=True)


def load(folder):
    """Asymmetric packed weights need dequantize=True (compressed-tensors 0.20), which drops the rounding of activations: weight-only exports have none."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]["group_0"]
    how = {}
    if not config["weights"]["symmetric"] and config["input_activations"] is None:
        how["quantization_config"] = transformers.CompressedTensorsConfig(dequantize=True)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def check_weights(checkpoint, model):
    modules = dict(model.named_modules())
    different, largest = [], 0.0
    for block in range(checkpoint.blocks):
        for name in (f"model.layers.{block}.{linear}" for linear in LINEARS):
            delta = np.abs(modules[name].weight.detach().numpy() - checkpoint.weight(name)).max()
            largest = max(largest, float(delta))
            if delta:
                different.append(name)
    report("weights", not different, f"{len(LINEARS) * checkpoint.blocks} layers equal value for value" if not different else f"{len(different)} differ, by up to {largest:.2e}")


def check_layers(checkpoint, model, ids):
    """Every linear layer's output from the input that it has in transformers' own pass: what a code that lies between two values does to the layers behind it is no matter here."""
    worst, hooks = {}, []

    def compare(name):
        def hook(module, inputs, output):
            x, theirs = inputs[0][0].numpy(), output[0].numpy()
            ours = checkpoint.rounded(x) @ checkpoint.weight(name).T + checkpoint.tensors.get(name + ".bias", np.float32(0))
            worst[name] = np.sqrt(((ours - theirs) ** 2).mean() / (theirs ** 2).mean())
        return hook
    for name, module in model.named_modules():
        if name.split(".")[-1].endswith("_proj"):
            hooks.append(module.register_forward_hook(compare(name)))
    theirs = logits(model, ids)
    for hook in hooks:
        hook.remove()
    name = max(worst, key=worst.get)
    report("layers", len(worst) == len(LINEARS) * checkpoint.blocks and worst[name] < 1e-4, f"{len(worst)} outputs from their own inputs, relative difference at most {worst[name]:.1e} ({name})")
    return theirs


def bound_on_divergence(checkpoint, ids, ours):
    """1e-5 for 16-bit activations. Rounded ones jump where a value lies between two codes, and what follows jumps with them: three times what the last bit of the embedding does."""
    if checkpoint.recipe["activation"]["bits"] == 16:
        return 1e-5
    embedding = checkpoint.tensors["model.embed_tokens.weight"].astype(np.float32)
    checkpoint.tensors["model.embed_tokens.weight"] = embedding * (1 + 1e-7 * np.random.default_rng(1).standard_normal(embedding.shape, dtype=np.float32))
    moved = divergence(ours, forward(checkpoint, ids, prefix=False))
    checkpoint.tensors["model.embed_tokens.weight"] = embedding
    print(f"     embeddings moved by 1e-7 of themselves: mean KL divergence {moved:.2e}")
    return max(1e-5, 3 * moved)


def with_other_codes(folder):
    """A copy whose codes lie in another order: the two halves of every byte, or neighbouring values, change places."""
    copy = pathlib.Path(tempfile.mkdtemp()) / "broken"
    shutil.copytree(folder, copy)
    for file in copy.glob("*.safetensors"):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if name.endswith(".weight_packed"):
                codes = tensor.contiguous().view(torch.uint8)
                tensors[name] = (codes << 4 | codes >> 4).view(torch.int32)
            elif tensor.dtype == torch.int8 and name.endswith(".weight"):
                tensors[name] = tensor.reshape(len(tensor), -1, 2).flip(-1).reshape(tensor.shape).contiguous()
        save_file(tensors, file, metadata={"format": "pt"})
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=256)
    options = parser.parse_args()
    checkpoint = Checkpoint(options.checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.folder)
    text = options.text.read_text()[2000:2000 + 8 * options.tokens] if options.text else PROSE
    ids = tokenizer(text)["input_ids"][:options.tokens]
    prefix = json.loads((options.folder / "config.json").read_text())["prefixquant"]["prefix"]["token_ids"]
    report("tokens", ids[:len(prefix)] == prefix, f"the text begins with {ids[:len(prefix)]}, the prefix is {prefix}")
    model = load(options.folder)
    logits(model, ids[:1])  # the first pass decompresses
    check_weights(checkpoint, model)
    theirs = check_layers(checkpoint, model, ids)
    ours = forward(checkpoint, ids, prefix=False)
    kl = divergence(ours, theirs)
    report("logits", kl < bound_on_divergence(checkpoint, ids, ours), f"mean KL divergence {kl:.2e} over {len(ids)} tokens, largest difference {np.abs(ours - theirs).max():.2e}")
    copy = with_other_codes(options.folder)
    kl = divergence(ours, logits(load(copy), ids))
    shutil.rmtree(copy.parent)
    report("broken: codes in another order", kl > 1e-2, f"mean KL divergence {kl:.2e}")


if __name__ == "__main__":
    main()
    sys.exit(failures > 0)
