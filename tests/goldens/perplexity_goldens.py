"""Perplexity of a model directory on a text, by Hugging Face transformers in float32, as `pq eval` defines it.

    pip install torch transformers tokenizers
    python tests/goldens/perplexity_goldens.py MODEL TEXT [--chunks 20] [--length 2048] [--stride N | --llama-cpp-chunks]

The text is taken verbatim and tokenized once, whole, by the model's tokenizer.json: with the special tokens that its
post-processor adds and no others (`bos` lists those in front). The stream is cut into consecutive chunks; each runs
alone from position 0, without BOS of its own, and predicts its tokens 1 to length - 1. pq puts a quantized model's
prefix before every chunk and nothing before an unquantized model's, so this compares with FP16. Prints one JSON object.

--stride: the sum of https://huggingface.co/docs/transformers/perplexity, with the model's own loss.
--llama-cpp-chunks: perplexity() of llama.cpp's tools/perplexity: the text loses one newline at its end; BOS, where the
tokenizer adds one, takes the place of every chunk's first token; rows length / 2 to length - 2 are scored.

perplexity_windows.json holds what these print for examples/sample-model on examples/prose.txt:

    for how in "256 --stride 96" "128 --stride 96" "256 --stride 256" "256 --llama-cpp-chunks" "255 --llama-cpp-chunks" "64 --llama-cpp-chunks"; do
      python tests/goldens/perplexity_goldens.py examples/sample-model examples/prose.txt --chunks 0 --length $how
    done
"""

import argparse
import json
import math
import pathlib

import tokenizers
import torch
import transformers


def stream_of(model_dir: pathlib.Path, text: str) -> tuple[list[int], list[int]]:
    """All token ids, and those in front that are not of the text."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(text)
    in_front = next((i for i, special in enumerate(encoding.special_tokens_mask) if not special), 0)
    return encoding.ids, encoding.ids[:in_front]


@torch.no_grad()
def mean_nll(model: torch.nn.Module, chunk: list[int], first: int = 0) -> float:
    """Of the tokens behind token `first`."""
    logits = model(torch.tensor([chunk]), use_cache=False).logits[0, first:-1]
    targets = torch.tensor(chunk[first + 1:])
    rows = zip(logits.split(256), targets.split(256))
    total = sum(torch.nn.functional.cross_entropy(part.double(), t, reduction="sum").item() for part, t in rows)
    return total / len(targets)


def chunk_means(model: torch.nn.Module, chunks: list[list[int]]) -> tuple[float, int]:
    """Mean over chunks, and how many tokens are scored."""
    return sum(mean_nll(model, chunk) for chunk in chunks) / len(chunks), sum(len(chunk) - 1 for chunk in chunks)


def llama_cpp_means(model: torch.nn.Module, chunks: list[list[int]], bos: list[int]) -> tuple[float, int]:
    first = len(chunks[0]) // 2
    count = len(chunks[0]) - first - 1
    nll = sum(mean_nll(model, (bos or chunk[:1]) + chunk[1:], first) * count for chunk in chunks)
    return nll / (count * len(chunks)), count * len(chunks)


@torch.no_grad()
def stride_means(model: torch.nn.Module, stream: list[int], length: int, stride: int) -> tuple[float, int, int]:
    """As the guide adds up; how many tokens are scored, and windows run."""
    ids = torch.tensor([stream])
    nll_sum, tokens, scored, windows, previous_end = 0.0, 0, 0, 0, 0
    for begin in range(0, len(stream), stride):
        end = min(begin + length, len(stream))
        new = end - previous_end
        targets = ids[:, begin:end].clone()
        targets[:, :-new] = -100
        loss = model(ids[:, begin:end], labels=targets, use_cache=False).loss
        valid = (targets != -100).sum().item()
        scored += (targets[:, 1:] != -100).sum().item()
        if valid > 1:
            nll_sum += loss.item() * (valid - 1)
            tokens += valid - 1
        windows += 1
        previous_end = end
        if end == len(stream):
            break
    return nll_sum / tokens, scored, windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--chunks", type=int, default=20, help="the first ones only; 0: all")
    parser.add_argument("--length", type=int, default=2048, help="tokens a chunk")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--stride", type=int)
    how.add_argument("--llama-cpp-chunks", action="store_true")
    arguments = parser.parse_args()

    text = arguments.text.read_bytes().decode()
    if arguments.llama_cpp_chunks:
        text = text.removesuffix("\n")
    stream, bos = stream_of(arguments.model, text)
    available = len(stream) // arguments.length
    count = min(arguments.chunks, available) if arguments.chunks else available
    if count == 0:
        parser.error(f"{arguments.text} has {len(stream)} tokens, less than one chunk")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation="eager").eval()
    starts = range(0, count * arguments.length, arguments.length)
    chunks = [stream[start:start + arguments.length] for start in starts]
    result = {
        "model": arguments.model.resolve().name,
        "transformers": transformers.__version__,
        "bos": bos,
        "length": arguments.length,
    }
    if arguments.stride:
        mean, tokens, count = stride_means(model, stream, arguments.length, arguments.stride)
        result["stride"] = arguments.stride
    elif arguments.llama_cpp_chunks:
        mean, tokens = llama_cpp_means(model, chunks, bos)
        result["llama_cpp_chunks"] = True
    else:
        mean, tokens = chunk_means(model, chunks)
    print(json.dumps(result | {"chunks": count, "tokens": tokens, "perplexity": round(math.exp(mean), 6)}))


if __name__ == "__main__":
    main()
