"""Perplexity of a model directory on a text, by Hugging Face transformers in float32, as `pq eval` defines it.

    pip install torch transformers tokenizers
    python tests/goldens/perplexity_goldens.py MODEL TEXT [--chunks 20] [--length 2048]

The text is taken verbatim and tokenized once, whole, by the model's tokenizer.json: with the special tokens that its
post-processor adds and no others (`bos` lists those in front). The stream is cut into consecutive chunks; each runs
alone from position 0, without BOS of its own, and predicts its tokens 1 to length - 1. pq puts a quantized model's
prefix before every chunk and nothing before an unquantized model's, so this compares with FP16. Prints one JSON object.
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
def mean_nll(model: torch.nn.Module, chunk: list[int]) -> float:
    logits = model(torch.tensor([chunk]), use_cache=False).logits[0, :-1]
    targets = torch.tensor(chunk[1:])
    rows = zip(logits.split(256), targets.split(256))
    total = sum(torch.nn.functional.cross_entropy(part.double(), t, reduction="sum").item() for part, t in rows)
    return total / len(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--chunks", type=int, default=20, help="the first ones only; 0: all")
    parser.add_argument("--length", type=int, default=2048, help="tokens a chunk")
    arguments = parser.parse_args()

    stream, bos = stream_of(arguments.model, arguments.text.read_bytes().decode())
    available = len(stream) // arguments.length
    count = min(arguments.chunks, available) if arguments.chunks else available
    if count == 0:
        parser.error(f"{arguments.text} has {len(stream)} tokens, less than one chunk")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation="eager").eval()
    starts = range(0, count * arguments.length, arguments.length)
    mean = sum(mean_nll(model, stream[start:start + arguments.length]) for start in starts) / count
    print(json.dumps({
        "model": arguments.model.resolve().name,
        "transformers": transformers.__version__,
        "bos": bos,
        "length": arguments.length,
        "chunks": count,
        "tokens": count * (arguments.length - 1),
        "perplexity": round(math.exp(mean), 6),
    }))


if __name__ == "__main__":
    main()
