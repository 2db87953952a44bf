"""Perplexity of a GGUF file by llama.cpp itself, as llama-perplexity computes it, on a machine that reaches PyPI (pip install numpy gguf, and llama-cpp-python, llama-cpp-py-sync or xllamacpp).

    llama-cpp-perplexity.py model.gguf --text wiki.test.raw [--length 512] [--chunks N] [--prefix ID,ID | --state model.prefix.state]
    llama-cpp-perplexity.py f16.gguf --quantize Q4_K_M -o q4_k_m.gguf

The text, less one newline at its end, is cut into chunks of --length tokens, whose second halves are scored; BOS takes the place of a chunk's first token where the tokenizer adds one. `pq eval --llama-cpp-chunks --length 512` is the
same in PrefixQuant. With --prefix its tokens stand before every chunk, computed by the file's own weights; with --state they do as the sequence state has them. --quantize makes the files of llama.cpp that an export is held against."""
import argparse
import math
import pathlib
import sys
import time

import gguf
import numpy as np

import llama_cpp_library


def bits_a_weight(path):
    """Of the linear layers of the blocks, and of all tensors."""
    tensors = gguf.GGUFReader(path).tensors
    linears = [t for t in tensors if t.name.startswith("blk.") and len(t.shape) > 1]
    return tuple(8 * sum(int(t.n_bytes) for t in some) / sum(int(t.n_elements) for t in some) for some in (linears, tensors))


def losses(logits, ids):
    """Of each token behind its logits, in nats."""
    logits = logits - logits.max(-1, keepdims=True)
    chosen = logits[np.arange(len(ids)), ids]
    return np.log(np.exp(logits).sum(-1, dtype=np.float64)) - chosen


def perplexity(model, ids, options):
    start = list(options.prefix)
    if options.state:
        start = model.load_state(options.state)
        if not start:
            sys.exit(f"llama.cpp does not load {options.state}: {model.library.said('state', 'error', 'fail')}")
    elif start:
        model.logits(start, len(start) - 1)
    bos = model.library.llama_vocab_bos(model.vocab) if model.library.llama_vocab_get_add_bos(model.vocab) else None
    half = options.length // 2
    chunks = min(len(ids) // options.length, options.chunks or len(ids))
    means = []
    began = time.time()
    for chunk in range(chunks):
        part = list(ids[chunk * options.length:(chunk + 1) * options.length])
        if bos is not None:
            part[0] = bos
        model.forget(len(start))
        means.append(losses(model.logits(part, half)[:-1], np.array(part[half + 1:])).mean())
        if sys.stderr.isatty() or chunk % 10 == 9:
            print(f"{chunk + 1}/{chunks} chunks, {time.time() - began:.0f} s, perplexity {math.exp(np.mean(means)):.4f}", file=sys.stderr, flush=True)
    mean = np.mean(means)
    error = np.std(means, ddof=1) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return math.exp(mean), math.exp(mean) * error, chunks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=0, help="the first so many; without it all")
    parser.add_argument("--prefix", type=lambda text: [int(i) for i in text.split(",")], default=[], metavar="ID,ID")
    parser.add_argument("--state", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--library", type=pathlib.Path, help="a shared library with llama.cpp's functions")
    parser.add_argument("--quantize", choices=sorted(llama_cpp_library.FILE_TYPES))
    parser.add_argument("-o", "--output", type=pathlib.Path)
    options = parser.parse_args()
    if bool(options.quantize) != bool(options.output) or bool(options.quantize) == bool(options.text):
        parser.error("give either --text, or --quantize and -o")
    library = llama_cpp_library.Library(options.library)
    if options.quantize:
        library.quantize(options.gguf, options.output, options.quantize, options.threads)
        print("{}: {:.2f} bits a weight of the linear layers, {:.2f} of all".format(options.output, *bits_a_weight(options.output)))
        return
    model = llama_cpp_library.Model(library, options.gguf, options.length + 64, options.threads)
    ids = model.tokenize(options.text.read_text().removesuffix("\n"))
    value, error, chunks = perplexity(model, ids, options)
    behind = f"behind {options.state}" if options.state else f"behind tokens {options.prefix}" if options.prefix else "no prefix"
    print("{}: perplexity {:.4f} +/- {:.4f}, {} chunks of {}, {}; {:.2f} bits a weight of the linear layers, {:.2f} of all".format(
        options.gguf, value, error, chunks, options.length, behind, *bits_a_weight(options.gguf)))


if __name__ == "__main__":
    main()
