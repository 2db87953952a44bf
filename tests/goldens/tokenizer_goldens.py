#!/usr/bin/env python3
"""Makes the tokenizer goldens with Hugging Face `tokenizers` (0.23.3 when they were last made).

    tokenizer_goldens.py SHARED_DIR REPOSITORY_DIR

writes into tokenizer/ beside itself
  lines_NAME.bin  one little-endian 32-bit FNV-1a hash for each line of the three WikiText-2 files, in the order of FILES;
                  the hash is over the ids as little-endian int32, a line is what stands between "\\n"s
  texts.json      for each tokenizer: number and hash of the ids of each whole file, and tricky texts with their ids (without
                  and with special tokens) and decodings (of the ids with special tokens)
  variants.json   small tokenizer.json files that use what the real ones do not, with the same kind of texts
"""
import json
import pathlib
import random
import struct
import sys

from tokenizers import Tokenizer

NAMES = ["llama2", "llama3", "qwen2.5", "mistral-v0.3", "smollm2"]
FILES = ["wiki.test.raw", "wiki.valid.raw", "wikitext2_train_5k.txt"]
SPACES = [chr(c) for c in (9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F,
                           0x205F, 0x2060, 0x3000, 0xFEFF)]
TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r\n\r\n x", " a", "a ", "  a  b  ", "a\n b", "a \n b", "a\t\tb",
    "Hello world", "Hello, world! It's we'll I'D YOU'RE they've don't 's 'S 'll'll", "'\u017f \u212a'm",
    "cafe\u0301 caf\u00e9 A\u030a \u212b \u1100\u1161\u11a8 \uac01 a\u0327\u0301\u0323 \u0344 \uf900 \u0958",
    "\U0001F999 \U0001F469\u200d\U0001F469\u200d\U0001F467 \U0001F1E9\U0001F1EA \u2764\ufe0f\U0001F3FD", "日本語の文章。漢字カタカナ", "한국어 텍스트",
    "कार्य हिन्दी", "ក្រុមការងារ", "שלום עולם", "مرحبا بالعالم", "Привет, мир", "1234567890 12 123 1234 3.14159 1,000,000",
    "\u00b2\u00bd\u2167\u0663\uff11\uff12\U0001D7D8", "\x00\x01\x02\x1f\x7f\x80\x9f", "a\x00b", "\u2581a \u2581\u2581 b\u2581", "<0x41><0xE2>", "<unk> </s>",
    "http://a.b/c?d=e&f#g", "if (x[i] != y->z) { return *p++; }  // comment\n\treturn;", "________----....====", "a" * 200,
    " " * 100, "\n" * 33, "ab " * 50, "\ufffd\ufffe\uffff", "\U0010ffff\U000e0001", "\U00031350\U0001e030\u1c89\u2ffc",
    "\u0130I\u0131i \u00df\u1e9e \ufb01", *("x" + c + "y" for c in SPACES), *(c + c + "z " + c for c in SPACES), "".join(SPACES),
]


def library_tokenizer(text):
    """Old files write a merge as "a b"; where a token holds spaces itself, the library needs the pair (see TinyLlama's)."""
    data = json.loads(text)
    model = data["model"]
    vocab = model["vocab"]

    def cut(line):
        if not isinstance(line, str):
            return line
        ways = [(line[:i], line[i + 1:]) for i, c in enumerate(line) if c == " "]
        if len(ways) > 1:
            ways = [(a, b) for a, b in ways if a in vocab and b in vocab and a + b in vocab]
        (way,) = ways
        return list(way)

    model["merges"] = [cut(line) for line in model["merges"]]
    return Tokenizer.from_str(json.dumps(data))


def fnv1a(ids, offset, prime, bits):
    value = offset
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = ((value ^ byte) * prime) & ((1 << bits) - 1)
    return value


def hash32(ids):
    return fnv1a(ids, 0x811C9DC5, 0x01000193, 32)


def hash64(ids):
    return fnv1a(ids, 0xCBF29CE484222325, 0x100000001B3, 64)


def cases(tokenizer, texts):
    rows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        special = tokenizer.encode(text, add_special_tokens=True).ids
        rows.append({"text": text, "ids": ids, "ids_special": special,
                     "decoded": tokenizer.decode(special, skip_special_tokens=False),
                     "decoded_skip": tokenizer.decode(special, skip_special_tokens=True)})
    return rows


def random_ids(tokenizer, count, rng):
    """Ids that no text gives: broken UTF-8, ids without a token."""
    rows = []
    first_byte = tokenizer.token_to_id("<0x00>")
    size = tokenizer.get_vocab_size()
    for i in range(count):
        ids = [rng.randrange(size + 3) for _ in range(rng.randint(1, 10))]
        if first_byte is not None and i % 2:
            ids = [first_byte + rng.randrange(256) if rng.random() < 0.8 else x for x in ids]
        rows.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    return rows


def special_texts(data):
    tokens = [t["content"] for t in data["added_tokens"]]
    tokens = tokens[:4] + tokens[-2:]
    texts = []
    for token in tokens:
        texts += [token, "a" + token + "b", "a " + token + " b", token + token, " " + token + " ", token[:-1], token + "\n x"]
    return texts + ["".join(tokens), " ".join(tokens)]


def byte_level_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}


def maker():
    """A function that makes a small tokenizer.json as a dict."""
    letters = list("abcdehlorstw xyzABEH0123456789.,!-_'\n\u2581\u00e9\u4e2d")
    words = ["he", "ll", "hell", "hello", "wo", "wor", "worl", "world", "ab", "abc", "12", "\u2581h", "\u2581he", "\u2581hello", "\u2581a", "--", "\u2581\u2581",
             " h", " he"]
    pairs = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("w", "o"), ("wo", "r"), ("wor", "l"), ("worl", "d"), ("a", "b"), ("ab", "c"), ("1", "2"),
             ("\u2581", "h"), ("\u2581h", "e"), ("\u2581", "hello"), ("\u2581", "a"), ("-", "-"), ("\u2581", "\u2581"), (" ", "h"), (" h", "e")]

    def make(normalizer=None, pre=None, decoder=None, post=None, added=(), bytes_too=False, byte_level=False, **model):
        tokens = ["<unk>", *letters, *words]
        if bytes_too:
            tokens += [f"<0x{b:02X}>" for b in range(256)]
        if byte_level:
            tokens += [c for c in byte_level_alphabet().values() if c not in tokens] + ["\u0120h", "\u0120he"]
        merges = [list(p) for p in pairs] + ([["\u0120", "h"], ["\u0120h", "e"]] if byte_level else [])
        vocab = {t: i for i, t in enumerate(tokens)}
        entries = []
        next_id = len(vocab)
        for content, flags in added:
            entry = {"id": vocab.get(content, next_id), "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                     "normalized": False, "special": False} | flags
            next_id += content not in vocab
            entries.append(entry)
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": entries, "normalizer": normalizer,
                "pre_tokenizer": pre, "post_processor": post, "decoder": decoder,
                "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                          "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges} | model}

    return make


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def metaspace(scheme, cut=True, char="\u2581"):
    return {"type": "Metaspace", "replacement": char, "prepend_scheme": scheme, "split": cut}


def sequence(key, *steps):
    return {"type": "Sequence", key: list(steps)}


def variants():
    """(name, tokenizer.json as a dict)"""
    make = maker()
    strip_decoder = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    underline = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    llama_decoder = sequence("decoders", underline, {"type": "ByteFallback"}, {"type": "Fuse"}, strip_decoder)
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    to_underline = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    yield "plain", make()
    yield "no unk", make(unk_token=None)
    yield "fused unk", make(fuse_unk=True)
    yield "byte fallback", make(bytes_too=True, byte_fallback=True, fuse_unk=True, decoder=llama_decoder)
    yield "byte fallback without bytes", make(byte_fallback=True, fuse_unk=True)
    yield "ignore merges", make(ignore_merges=True, pre=split({"Regex": "[a-z]+"}, "Isolated"))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"split {behavior} {invert}", make(pre=split({"String": "-"}, behavior, invert))
            yield f"split regex {behavior} {invert}", make(pre=split({"Regex": "\\s+|[0-9]{1,2}|(?=l)"}, behavior, invert))
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            added = [("<s>", {"special": True}), ("[X]", {"normalized": True}), ("[L]", {"lstrip": True, "rstrip": True})]
            yield f"metaspace {scheme} {cut}", make(pre=metaspace(scheme, cut), decoder=metaspace(scheme, cut), added=added)
            yield f"split, metaspace {scheme} {cut}", make(pre=sequence("pretokenizers", split({"String": "-"}, "Removed"), metaspace(scheme, cut)),
                                                           decoder=sequence("decoders", {"type": "Fuse"}, metaspace(scheme, cut)), added=added)
            yield f"strip, metaspace {scheme} {cut}", make(pre=metaspace(scheme, cut), added=added,
                                                           normalizer={"type": "Strip", "strip_left": True, "strip_right": False})
    yield "prepend, flags", make(normalizer=sequence("normalizers", prepend, to_underline), decoder=llama_decoder, added=[
        ("<s>", {"special": True}), ("[W]", {"single_word": True}), ("[L]", {"lstrip": True}), ("[R]", {"rstrip": True}),
        ("[LR]", {"lstrip": True, "rstrip": True, "single_word": True}), ("ab", {"single_word": True}), ("abx", {}), ("b c", {}), ("[N]", {"normalized": True})])
    yield "normalized words", make(normalizer={"type": "NFC"}, added=[("e\u0301", {"normalized": True}), ("he\u00e9", {"normalized": True, "single_word": True})])
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, make(normalizer={"type": form}, byte_level=True, pre={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                         decoder={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True})
    for space in (False, True):
        for regex in (False, True):
            level = {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": regex}
            yield f"byte level {space} {regex}", make(byte_level=True, pre=level, decoder=level, post=level, added=[("<s>", {"special": True}), ("\u00e9 \u4e2d", {})])
    for individual in (False, True):
        yield f"digits {individual}", make(pre=sequence("pretokenizers", {"type": "Digits", "individual_digits": individual}, split({"String": " "}, "Removed")))
    yield "strip both", make(normalizer={"type": "Strip", "strip_left": True, "strip_right": True})
    yield "replace regex", make(normalizer={"type": "Replace", "pattern": {"Regex": "l+|\\d(?!\\d)"}, "content": "x"},
                                decoder=sequence("decoders", {"type": "Fuse"}, {"type": "Replace", "pattern": {"Regex": "x+"}, "content": "<>"}))
    yield "strip ends", make(decoder=sequence("decoders", {"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 2, "stop": 0}))
    yield "fused then bytes", make(byte_level=True, decoder=sequence("decoders", {"type": "Fuse"}, {"type": "ByteLevel", "add_prefix_space": False,
                                                                                                "trim_offsets": True, "use_regex": True}))
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "S", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "E", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"S": {"id": "S", "ids": [1, 2], "tokens": ["a", "b"]}, "E": {"id": "E", "ids": [3], "tokens": ["c"]}}}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "template", make(post=template)
    yield "templates", make(post=sequence("processors", level, template))


BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")


def step_variants():
    """The pre-tokenizers and normalizers that few models use, each alone and where another step looks at what it left."""
    make = maker()
    cutters = {f"punctuation {b}": {"type": "Punctuation", "behavior": b} for b in BEHAVIORS}
    cutters |= {"punctuation": {"type": "Punctuation"}, "whitespace": {"type": "Whitespace"}, "whitespace split": {"type": "WhitespaceSplit"},
                "bert": {"type": "BertPreTokenizer"}, "delimiter": {"type": "CharDelimiterSplit", "delimiter": "-"},
                "wide delimiter": {"type": "CharDelimiterSplit", "delimiter": "\u4e2d"}, "length": {"type": "FixedLength"}, "length 1": {"type": "FixedLength", "length": 1},
                "length 3": {"type": "FixedLength", "length": 3}, "nothing": sequence("pretokenizers")}
    cutters |= {f"empty {b} {i}": split({"String": ""}, b, i) for b in BEHAVIORS for i in (False, True)}
    cutters |= {f"words {b}": split({"Regex": "\\w+|[^\\w\\s]+"}, b, True) for b in BEHAVIORS}
    cutters |= {"edges": split({"Regex": "\\b"}, "Isolated"), "no edges": split({"Regex": "\\B."}, "Isolated"), "no words": split({"Regex": "\\W+"}, "MergedWithNext")}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    for name, cutter in cutters.items():
        yield name, make(pre=cutter)
        yield name + ", metaspace", make(pre=sequence("pretokenizers", cutter, metaspace("first")), added=[("[X]", {})])
        yield name + ", byte level", make(pre=sequence("pretokenizers", cutter, level), byte_level=True)
    falcon3 = sequence("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, level | {"add_prefix_space": False},
                       {"type": "Digits", "individual_digits": False}, split({"Regex": "[0-9][0-9][0-9]"}, "Isolated"))
    yield "falcon3", make(pre=falcon3, byte_level=True, decoder=level)
    normalizers = {"lowercase": {"type": "Lowercase"}, "accents": {"type": "StripAccents"}, "nmt": {"type": "Nmt"}, "bytes": {"type": "ByteLevel"},
                   "no accents": sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"})}
    for name, normalizer in normalizers.items():
        yield name, make(normalizer=normalizer, byte_level=True, added=[("[X]", {"normalized": True}), ("HE", {"normalized": True})])
        yield name + ", metaspace", make(normalizer=normalizer, pre=metaspace("first"), added=[("[X]", {})])
    for name in ("RobertaProcessing", "BertProcessing"):
        more = {"trim_offsets": True, "add_prefix_space": False} if name == "RobertaProcessing" else {}
        yield name, make(post={"type": name, "sep": ["ab", 3], "cls": ["he", 1], **more})


STEP_TEXTS = [
    "it's a .", "a ..b", "1234 12", "Hello, World! -- (abc) [12] {he}...", "...", "a.b,c!d-e", " . ", "$a+b=c^d`e|f~g<h>", "a\u3001b\u3002c\uff01d\u2026e\u00bfa\u00a7b", "a\u2e52b \u061d",
    "HELLO H\u00c9 \u0130 \u03a3\u03a3 \u00df", "e\u0301\u0323h \u0301h", "\u0001he\u007f \u200bh\u2581e\ufffd\u2028l", "\u200d\u24b6\u00b2\u0e33w\u203fx", "\u0300hello",
]
VARIANT_TEXTS = [
    "", " ", "hello world", " hello  world ", "hello-world--ab-", "--hello", "-", "12 123 1234", "a1b22c333 \u2167\u00bd", "<s>hello<s> hello <s>", "hello [X] hello", "[X]hello",
    "a [L] b", "  [L]  ", "a [R] b", "a[W]b [W] [W]", "a [LR] b  [LR] ", "ab abx xab abc ab-ab b c", "[N] [N]a a[N]", "\u2581hello \u2581", "e\u0301 h\u00e9 he\u00e9 he\u00e9x he\u0301",
    "\u4e2d\u6587 \u00e9 \u4e2d", "\n\nhello\nworld", "xhellox hexllox", "\ufb01 \u212b \u1100\u1161", "aaa aa a", "hello \u00e9\U0001F999\u00e9 q q", "qq\u00e9qq", "\u3000hello\u3000", "\u00a0 hello\u2003",
]


def main():
    shared, repository = map(pathlib.Path, sys.argv[1:3])
    here = pathlib.Path(__file__).parent / "tokenizer"
    here.mkdir(exist_ok=True)
    texts = {}
    for name in [*NAMES, "sample-model"]:
        folder = repository / "examples" if name == "sample-model" else shared / "data" / "tokenizers"
        source = (folder / name / "tokenizer.json").read_text()
        tokenizer = library_tokenizer(source)
        rng = random.Random(7)
        entry = texts[name] = {"cases": cases(tokenizer, TEXTS + special_texts(json.loads(source))), "decodes": random_ids(tokenizer, 60, rng), "files": {}}
        if name == "sample-model":
            continue
        hashes = []
        for file in FILES:
            text = (shared / "data" / "wikitext2" / file).read_bytes().decode()
            hashes += [hash32(tokenizer.encode(line, add_special_tokens=False).ids) for line in text.split("\n")]
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            entry["files"][file] = {"count": len(ids), "fnv1a64": hash64(ids)}
        (here / f"lines_{name}.bin").write_bytes(struct.pack(f"<{len(hashes)}I", *hashes))
    (here / "texts.json").write_text(json.dumps(texts, separators=(",", ":")) + "\n")
    rows = []
    for name, data in variants():
        tokenizer = Tokenizer.from_str(json.dumps(data))
        rows.append({"name": name, "tokenizer": data, "cases": cases(tokenizer, VARIANT_TEXTS)})
    for name, data in step_variants():
        rows.append({"name": name, "tokenizer": data, "cases": cases(Tokenizer.from_str(json.dumps(data)), STEP_TEXTS + VARIANT_TEXTS[::3])})
    (here / "variants.json").write_text(json.dumps(rows, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
