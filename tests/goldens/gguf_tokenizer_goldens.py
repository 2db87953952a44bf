"""Makes tests/goldens/gguf_tokenizers: small vocabularies with the steps of the tokenizers of real families, as tokenizer.json and
as GGUF, and what Hugging Face `tokenizers` makes of texts with traps.

    NAME.gguf    the vocabulary, no tensors, written by the `gguf` package
    cases.json   for each NAME the tokenizer.json and texts with their ids (without and with special tokens) and decodings

Needs: pip install gguf tokenizers (0.23 when they were last made). Deterministic."""
import json
import pathlib

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_goldens import TEXTS, cases

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "gguf_tokenizers"
PROSE = (HERE.parent.parent / "examples" / "prose.txt").read_text(encoding="utf-8")[:60000]

# As in the families' own tokenizer.json.
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
START, TAIL = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = rf"{START}{UPPER}*{LOWER}+{ENDS}|{START}{UPPER}+{LOWER}*{ENDS}|\p{{N}}{{1,3}}|{TAIL}"
TEKKEN = rf"{START}{UPPER}*{LOWER}+|{START}{UPPER}+{LOWER}*|\p{{N}}|{TAIL}"

# name: (tokenizer.ggml.pre, pattern, digits one by one, NFC, ignore_merges, BOS)
BYTE_LEVEL = {
    "qwen3": ("qwen2", QWEN2, False, True, False, False),
    "phi-4-mini": ("gpt-4o", O200K, False, False, False, False),
    "smollm3": ("llama-bpe", LLAMA3, False, False, True, True),
    "mistral-nemo": ("tekken", TEKKEN, False, False, True, True),
    "granite": ("refact", None, True, False, False, False),
    "olmo2": ("dbrx", LLAMA3, False, False, False, False),
    "gpt-2": ("gpt-2", None, False, False, False, False),
}
SPECIALS = ["<|begin|>", "<|end|>"]


def byte_level(name):
    pre, pattern, digits, nfc, ignore_merges, bos = BYTE_LEVEL[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern:
        steps.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([PROSE] + TEXTS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIALS])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False, special=False)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing("<|begin|> $A", "<|begin|> $A <|begin|> $B:1", [("<|begin|>", tokenizer.token_to_id("<|begin|>"))])
    return tokenizer, "gpt2", pre, bos


def sentence_piece(prefix):
    """Gemma (no space in front) and Llama 2."""
    trained = Tokenizer(models.BPE(byte_fallback=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=600, limit_alphabet=120, show_progress=False, max_token_length=8)
    trained.train_from_iterator([line for line in PROSE.splitlines()], trainer)
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokens += [t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1]) if t not in tokens]
    merges = [tuple(m) for m in model["merges"]]
    rank = {a + b: i for i, (a, b) in reversed(list(enumerate(merges)))}
    scores = [-float(rank[t]) if t in rank else -1e6 - i for i, t in enumerate(tokens)]
    ids = {t: i for i, t in enumerate(tokens)}
    # Every way to make a token, by score: what Hugging Face's converter of SentencePiece models writes.
    every = [(ids[t[:i]], ids[t[i:]], t, i) for t in tokens[259:] for i in range(1, len(t)) if t[:i] in ids and t[i:] in ids]
    local = sorted(every, key=lambda m: (ids[m[2]], m[0], m[1]))
    local.sort(key=lambda m: (scores[ids[m[2]]], m[3], len(m[2]) - m[3]), reverse=True)
    tokenizer = Tokenizer(models.BPE(ids, [(m[2][:m[3]], m[2][m[3]:]) for m in local], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in tokens[:3]])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B:1", [("<s>", 1)])
    return tokenizer, scores


def write(name, tokenizer, kind, pre, bos, scores=None, prefix=False):
    size = tokenizer.get_vocab_size()
    tokens = [tokenizer.id_to_token(i) for i in range(size)]
    added = {i: t.special for i, t in tokenizer.get_added_tokens_decoder().items()}
    types = []
    for i, token in enumerate(tokens):
        kind_of = gguf.TokenType.NORMAL
        if token == "<unk>":
            kind_of = gguf.TokenType.UNKNOWN
        elif i in added:
            kind_of = gguf.TokenType.CONTROL if added[i] else gguf.TokenType.USER_DEFINED
        elif kind == "llama" and len(token) == 6 and token.startswith("<0x"):
            kind_of = gguf.TokenType.BYTE
        types.append(kind_of)
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores is not None:
        writer.add_token_scores(scores)
        writer.add_add_space_prefix(prefix)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
    else:
        writer.add_token_merges([" ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]])
        writer.add_bos_token_id(tokenizer.token_to_id("<|begin|>"))
    writer.add_add_bos_token(bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    traps = TEXTS + ["<|begin|>x<|end|>", "a <tool> b", "x <s> y</s>", "It'S WE'LL HelloWorld camelCase XMLHttp 12345 Ünï ǅ"]
    golden = {}
    for name in BYTE_LEVEL:
        tokenizer, kind, pre, bos = byte_level(name)
        write(name, tokenizer, kind, pre, bos)
        golden[name] = {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases(tokenizer, traps)}
    for name, prefix in (("gemma", False), ("llama-2", True)):
        tokenizer, scores = sentence_piece(prefix)
        write(name, tokenizer, "llama", "default", True, scores, prefix)
        golden[name] = {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases(tokenizer, traps)}
    (OUT / "cases.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")), encoding="utf-8")
