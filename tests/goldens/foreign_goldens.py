"""Makes tests/goldens/foreign: small random checkpoints in the formats of other programs, with what those make of them.

    pip install torch transformers compressed-tensors safetensors numpy
    python tests/goldens/foreign_goldens.py [CASE ...]

Each NAME/ holds a checkpoint (config.json, model*.safetensors) and expected.safetensors: the dequantized float32 weights
of q_proj, v_proj and down_proj under the layers' names, `tokens` [sequences, tokens] and the float32 `logits` that follow them.
`ct-*` are written, dequantized and run by compressed-tensors and transformers. `gptq-*` and `awq-*` are packed here by
plain loops that follow AutoGPTQ (nn_modules/qlinear/qlinear_cuda_old.py) and AutoAWQ (modules/linear/gemm.py), and run
as the unquantized model that their dequantized weights make. Made with the versions that expected.safetensors names.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import compressed_tensors
import numpy as np
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent / "foreign"
COMMON = dict(vocab_size=61, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
              initializer_range=0.2)


def base_model(seed, family="llama", ffn=96, tied=False, blocks=1):
    torch.manual_seed(seed)
    config_class = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[family]
    config = config_class(**{**COMMON, "num_hidden_layers": blocks}, intermediate_size=ffn, tie_word_embeddings=tied)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.1)
            elif "norm" in name:
                value.normal_(1, 0.1)
    return model


def linears(model):
    return {name: module for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"}


def tokens():
    return torch.randint(3, COMMON["vocab_size"], (2, 11), generator=torch.Generator().manual_seed(5))


def run(model):
    with torch.no_grad():
        return model(tokens()).logits.float()


def group_ranges(weight, group):
    grouped = weight.reshape(weight.shape[0], -1, group)
    return grouped.amin(-1), grouped.amax(-1)


def choose_scales(weight, bits, symmetric, group, order=None):
    """Scales [out, groups] and zero points (compressed-tensors' signed ones) of min and max."""
    columns = weight if order is None else weight[:, order]
    low, high = group_ranges(columns, group)
    if symmetric:
        return torch.maximum(low.abs(), high.abs()) * 2 / (2**bits - 1), torch.zeros_like(low).to(torch.int8)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    zero = torch.clamp(torch.round(-2 ** (bits - 1) - low / scale), -2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return scale, zero.to(torch.int8)


def arguments(**fields):
    return {"num_bits": 4, "type": "int", "symmetric": True, "group_size": None, "strategy": None, "dynamic": False,
            "block_structure": None, "actorder": None, "observer": None, "observer_kwargs": {}, **fields}


def save(name, config, tensors, expected, logits, shard=False):
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    if shard:
        names = sorted(tensors)
        parts = [names[: len(names) // 2], names[len(names) // 2:]]
        index = {}
        for i, part in enumerate(parts):
            file = f"model-{i + 1:05}-of-00002.safetensors"
            save_file({key: tensors[key] for key in part}, directory / file, metadata={"format": "pt"})
            index.update({key: file for key in part})
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    else:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    kept = ("q_proj", "v_proj", "down_proj")
    expected = {**{key: value.float().contiguous() for key, value in expected.items() if key.endswith(kept)},
                "tokens": tokens().to(torch.int32), "logits": logits.contiguous()}
    save_file(expected, directory / "expected.safetensors", metadata={
        "transformers": transformers.__version__, "compressed_tensors": compressed_tensors.__version__})
    print(name, sum(file.stat().st_size for file in directory.iterdir()) // 1000, "kB")


def plain_config(model, dtype="float32"):
    config = json.loads(model.config.to_json_string(use_diff=False))
    keep = ("architectures", "model_type", "hidden_act", "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
            "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "bos_token_id", "eos_token_id")
    config = {key: config[key] for key in keep if key in config}
    config["architectures"] = [type(model).__name__]
    config["dtype"] = dtype
    return config


def others(model, quantized):
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return {key: value for key, value in state.items()
            if not any(key == name + ".weight" for name in quantized)}


def grouped(state, bits):
    """What releases before 0.20 wrote with actorder "group": the scale of column i is that of group weight_g_idx[i]."""
    scale = state["weight_scale"][:, state["weight_g_idx"].long()]
    codes = torch.clamp(torch.round(state["weight"] / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return {"weight_packed": pack_to_int32(codes.to(torch.int8), bits), "weight_shape": torch.tensor(codes.shape),
            "weight_scale": state["weight_scale"], "weight_g_idx": state["weight_g_idx"], "expected": codes * scale}


def compressed(name, bits=4, symmetric=True, group=None, form="pack-quantized", inputs=None, order=False, shard=False,
               scale_dtype=torch.float32, **model_settings):
    model = base_model(len(name), **model_settings)
    strategy = "group" if group else "channel"
    config = plain_config(model)
    weights = arguments(num_bits=bits, symmetric=symmetric, group_size=group, strategy=strategy,
                        actorder="group" if order else None)
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", "version": "0.9.0", "format": form,
        "quantization_status": "compressed", "global_compression_ratio": None, "kv_cache_scheme": None,
        "ignore": ["lm_head"], "sparsity_config": {}, "transform_config": {},
        "config_groups": {"group_0": {"targets": ["Linear"], "format": form, "weights": weights,
                                      "input_activations": inputs, "output_activations": None}}}
    config_text = json.dumps(config["quantization_config"]).replace('"actorder": "group"', '"actorder": null')
    scheme = QuantizationConfig.model_validate(json.loads(config_text)).config_groups["group_0"]
    compressor = BaseCompressor.get_value_from_registry(form)
    modules = linears(model)
    tensors, expected = others(model, modules), {}
    orders = {}
    for path, module in modules.items():
        weight = module.weight.detach()
        state = {"weight": weight.clone()}
        columns = None
        if order:  # the same for all layers that read one input
            site = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}.get(path.split(".")[-1],
                                                                                        path.split(".")[-1])
            columns = orders.setdefault(site, torch.randperm(weight.shape[1]))
            index = torch.empty(weight.shape[1], dtype=torch.int32)
            index[columns] = torch.arange(weight.shape[1], dtype=torch.int32) // group
            state["weight_g_idx"] = index
        scale, zero = choose_scales(weight, bits, symmetric, group or weight.shape[1], columns)
        state["weight_scale"], state["weight_zero_point"] = scale.to(scale_dtype), zero
        packed = grouped(state, bits) if order else compressor.compress(state, scheme)
        if symmetric:
            packed.pop("weight_zero_point", None)
        if inputs and not inputs["dynamic"]:
            packed["input_scale"] = torch.tensor([0.04 if inputs["symmetric"] else 0.037])
            if not inputs["symmetric"]:
                packed["input_zero_point"] = torch.tensor([-9], dtype=torch.int8)
        expected[path] = packed.pop("expected") if order else compressor.decompress(dict(packed), scheme)["weight"]
        packed.pop("bias", None)
        tensors.update({f"{path}.{key}": value for key, value in packed.items()})
    with tempfile.TemporaryDirectory() as place:
        save_file({key: value.contiguous() for key, value in tensors.items()}, f"{place}/model.safetensors",
                  metadata={"format": "pt"})
        pathlib.Path(place, "config.json").write_text(json.dumps(config))
        if inputs:
            loaded = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
            logits = run(loaded)
        else:  # its loader trips over packed zero points and group orders: the decompressed weights in the plain model
            with torch.no_grad():
                for path, module in modules.items():
                    module.weight.copy_(expected[path])
            logits = run(model)
    save(name, config, tensors, expected, logits, shard)


def gptq_pack(codes, bits):
    """AutoGPTQ's loops: codes [n, m] -> words [n / 32 * bits, m]."""
    codes = codes.astype(np.uint32)
    words = np.zeros((codes.shape[0] // 32 * bits, codes.shape[1]), dtype=np.uint32)
    i = row = 0
    while row < words.shape[0]:
        if bits in (2, 4, 8):
            for j in range(i, i + 32 // bits):
                words[row] |= codes[j] << (bits * (j - i))
            i += 32 // bits
            row += 1
            continue
        for j in range(i, i + 10):
            words[row] |= codes[j] << (3 * (j - i))
        i += 10
        words[row] |= codes[i] << 30
        row += 1
        words[row] |= (codes[i] >> 2) & 1
        i += 1
        for j in range(i, i + 10):
            words[row] |= codes[j] << (3 * (j - i) + 1)
        i += 10
        words[row] |= codes[i] << 31
        row += 1
        words[row] |= (codes[i] >> 1) & 3
        i += 1
        for j in range(i, i + 10):
            words[row] |= codes[j] << (3 * (j - i) + 2)
        i += 10
        row += 1
    return words.astype(np.int32)


def awq_pack(codes):
    """AutoAWQ's loops: codes [n, m] -> words [n, m / 8]."""
    codes = codes.astype(np.uint32)
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), dtype=np.uint32)
    for column in range(words.shape[1]):
        for i, place in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
            words[:, column] |= codes[:, column * 8 + place] << (i * 4)
    return words.astype(np.int32)


def input_first(name, method, bits=4, symmetric=False, group=32, version=1, order=False, zero_bias=False,
                **model_settings):
    model = base_model(len(name), **model_settings)
    modules = linears(model)
    tensors, expected, orders = others(model, modules), {}, {}
    for path, module in modules.items():
        weight = module.weight.detach()
        size = group if group > 0 else weight.shape[1]
        groups = torch.arange(weight.shape[1]) // size
        columns = None
        if order:
            site = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}.get(path.split(".")[-1],
                                                                                        path.split(".")[-1])
            columns = orders.setdefault(site, torch.randperm(weight.shape[1]))
            groups[columns] = torch.arange(weight.shape[1]) // size
        scale, zero = choose_scales(weight, bits, symmetric, size, columns)
        scale = scale.half().float()
        zero = zero.float() + 2 ** (bits - 1)
        if version == 1 and method == "gptq":
            zero = zero.clamp(min=1)  # 0 cannot be stored less 1
        codes = torch.clamp(torch.round(weight / scale[:, groups]) + zero[:, groups], 0, 2**bits - 1)
        expected[path] = (codes - zero[:, groups]) * scale[:, groups]
        codes, zeros = codes.numpy().T, zero.numpy().T
        if method == "awq":
            tensors[path + ".qweight"] = torch.from_numpy(awq_pack(codes))
            tensors[path + ".qzeros"] = torch.from_numpy(awq_pack(zeros))
        else:
            tensors[path + ".qweight"] = torch.from_numpy(gptq_pack(codes, bits))
            tensors[path + ".qzeros"] = torch.from_numpy(gptq_pack((zeros - (version == 1)).T, bits).T.copy())
            tensors[path + ".g_idx"] = groups.to(torch.int32)
        tensors[path + ".scales"] = scale.T.half()
        if zero_bias and module.bias is None:
            tensors[path + ".bias"] = torch.zeros(weight.shape[0], dtype=torch.float16)
        with torch.no_grad():
            module.weight.copy_(expected[path])
    config = plain_config(model)
    if method == "awq":
        config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True,
                                         "version": "gemm", "modules_to_not_convert": None}
    else:
        config["quantization_config"] = {
            "quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": order,
            "damp_percent": 0.01, "true_sequential": True, "static_groups": False, "lm_head": False, "dynamic": None,
            **({"checkpoint_format": "gptq_v2"} if version == 2 else {})}
    save(name, config, tensors, expected, run(model))


def activations(**fields):
    return arguments(num_bits=8, **fields)


CASES = {
    "ct-w4-g32-biases-tied": dict(group=32, family="qwen2", tied=True, shard=True, blocks=2),
    "ct-w4-channel-asym": dict(symmetric=False, ffn=100),
    "ct-w3-channel": dict(bits=3, ffn=100),
    "ct-w2-g32-asym": dict(bits=2, symmetric=False, group=32),
    "ct-w8-g32": dict(bits=8, group=32),
    "ct-w4-g32-order": dict(group=32, order=True),
    "ct-w8a8-dynamic": dict(bits=8, form="int-quantized", inputs=activations(strategy="token", dynamic=True)),
    "ct-w8a8-static": dict(bits=8, form="int-quantized", inputs=activations(strategy="tensor")),
    "ct-w8a8-static-asym": dict(bits=8, form="int-quantized", inputs=activations(strategy="tensor", symmetric=False)),
    "ct-w4a8-dynamic": dict(group=32, inputs=activations(strategy="token", dynamic=True)),
    "gptq-w4-g32": dict(method="gptq", zero_bias=True),
    "gptq-w4-sym-v2": dict(method="gptq", symmetric=True, group=-1, version=2, family="qwen2"),
    "gptq-w3-g32": dict(method="gptq", bits=3),
    "gptq-w2-g32-v2": dict(method="gptq", bits=2, version=2),
    "gptq-w8-sym": dict(method="gptq", bits=8, symmetric=True),
    "gptq-w4-g32-order": dict(method="gptq", order=True),
    "awq-w4-g32": dict(method="awq"),
}

if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        (input_first if "method" in CASES[case] else compressed)(case, **CASES[case])
