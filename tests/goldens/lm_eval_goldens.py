"""Makes tests/goldens/tasks: what lm-evaluation-harness (lm_eval) computes for the tasks of `pq eval --tasks`.

    pip install torch transformers accelerate "lm_eval[hf]"
    python tests/goldens/lm_eval_goldens.py                                         # random-llama/, own.json
    python tests/goldens/lm_eval_goldens.py --data ../shared/data [--limit 200]     # shared.json

documents/ holds documents of our own in the fields of the Hugging Face hub, made to hit what the rules turn on; own.json
says what lm_eval makes of them. shared.json says the same of the first --limit documents of every file in
DATA/tasks (arc_challenge.jsonl ..) and of two pages of DATA/wikitext2/wiki.test.raw, which are not ours to keep: so it
holds hashes of their requests. random-llama/ is a small random checkpoint for the tokenizer of examples/sample-model.
All in float32, on one thread, one request at a time.

    runs[]: model, bos (add_bos_token), shots, tasks{}
    tasks{}: metrics (acc, acc_norm, their _stderr, perplexity), gold[], log_likelihoods[document][choice],
             greedy[document]: a 0 or 1 a choice; of wikitext log_likelihoods[page]
    mmlu in tasks{}: the group of the subjects beside it
    requests{shots}{task}[document]: [[context, continuation] ..] (own.json)
    request_hashes{shots}{task}[document]: FNV-1a of context, 0, continuation, 0, of one choice after the other (shared.json)
    wikitext: words, bytes (of the page as it stands), and target or target_hash (detokenized) of every page

The packaged tasks of lm_eval run unchanged but for where their documents come from. DATA/tasks/hellaswag.jsonl is
cleaned already and has no ctx_a: there the query is `activity_label: ctx`, and neither it nor an ending is cleaned again.
transformers' LlamaTokenizer does not follow tokenizer.json before a leading space: both models get PreTrainedTokenizerFast.
"""

import argparse
import json
import os
import pathlib
import shutil
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "tasks"
SAMPLE_MODEL = HERE.parent.parent / "examples" / "sample-model"
SUBJECTS = ["abstract_algebra", "anatomy", "high_school_us_history"]
CONTEXTS = {"sample-model": 512, "random-llama": 256}


def lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_lines(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fnv1a(*texts: str) -> str:
    state = 0xCBF29CE484222325
    for text in texts:
        for byte in text.encode():
            state = (state ^ byte) * 0x100000001B3 % 2**64
    return f"{state:016x}"


def make_random_llama(out: pathlib.Path) -> None:
    import torch
    import transformers
    from safetensors.torch import save_file

    config = transformers.LlamaConfig(
        vocab_size=8192, hidden_size=32, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=CONTEXTS["random-llama"], tie_word_embeddings=True,
        rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    generator = torch.Generator().manual_seed(13)
    model = transformers.LlamaForCausalLM(config)
    state = {}
    for name, weight in sorted(model.state_dict().items()):
        if name == "lm_head.weight":
            continue
        values = torch.randn(weight.shape, generator=generator) * (0.3 if weight.dim() == 2 else 0.1)
        state[name] = (values if weight.dim() == 2 else 1 + values).to(torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    settings = {key: value for key, value in config.to_dict().items() if key in (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings", "rms_norm_eps",
        "bos_token_id", "eos_token_id", "model_type", "hidden_act")}
    settings.update(architectures=["LlamaForCausalLM"], rope_theta=10000.0, torch_dtype="bfloat16")
    (out / "config.json").write_text(json.dumps(settings, indent=1) + "\n")


def with_exact_tokenizer(model: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """The model's directory, with a tokenizer that does what tokenizer.json says."""
    shutil.copytree(model, out)
    shutil.copy(SAMPLE_MODEL / "tokenizer.json", out)
    settings = json.loads((SAMPLE_MODEL / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    return out


class LocalTasks:
    """The packaged tasks of lm_eval, reading files of `data`."""

    def __init__(self, data: pathlib.Path, work: pathlib.Path, limit: int | None):
        import lm_eval

        self.packaged = pathlib.Path(lm_eval.__file__).parent / "tasks"
        self.work = work
        self.limit = limit
        self.names = []
        work.mkdir()
        self.add("piqa", "piqa/piqa.yaml", validation=data / "piqa.jsonl")
        self.add("arc_easy", "arc/arc_easy.yaml", test=data / "arc_easy.jsonl")
        self.add("arc_challenge", "arc/arc_challenge.yaml", test=data / "arc_challenge.jsonl")
        self.add_hellaswag(data / "hellaswag.jsonl")
        self.add("winogrande", "winogrande/default.yaml", validation=data / "winogrande.jsonl")
        self.add("lambada_openai", "lambada/lambada_openai.yaml", test=data / "lambada.jsonl")
        for subject in SUBJECTS:
            splits = {}
            for split in ("test", "dev"):
                rows = [row for row in lines(data / f"mmlu_{split}.jsonl") if row["subject"] == subject]
                splits[split] = write_lines(work / f"mmlu_{subject}_{split}.jsonl", rows)
            self.add(f"mmlu_{subject}", f"mmlu/default/mmlu_{subject}.yaml", **splits)

    def add(self, name: str, yaml: str, changed: dict = {}, **splits: pathlib.Path) -> None:
        settings = {"include": str(self.packaged / yaml), "task": f"local_{name}", "dataset_path": "json",
                    "dataset_name": None, "tag": [], "dataset_kwargs": {"data_files": {}}}
        for split, file in splits.items():
            rows = lines(file)
            if self.limit is not None and split != "dev":
                rows = rows[:self.limit]
            path = write_lines(self.work / f"{name}.{split}.jsonl", rows)
            settings["dataset_kwargs"]["data_files"][split] = str(path)
        settings.update({f"{split}_split": None for split in ("training", "validation", "test")
                         if split not in splits})
        if "mmlu" in name:
            settings["fewshot_split"] = "dev"
        settings.update(changed)
        (self.work / f"{name}.yaml").write_text(json.dumps(settings))  # JSON is YAML
        self.names.append(f"local_{name}")

    def add_hellaswag(self, file: pathlib.Path) -> None:
        rows = lines(file)
        if "ctx_a" in rows[0]:
            return self.add("hellaswag", "hellaswag/hellaswag.yaml", validation=file)
        cleaned = write_lines(self.work / "hellaswag_cleaned.jsonl",
                              [{"query": f"{row['activity_label']}: {row['ctx']}", "choices": row["endings"],
                                "label": str(row["label"])} for row in rows])
        changed = {"process_docs": None, "doc_to_text": "{{query}}", "doc_to_choice": "{{choices}}"}
        return self.add("hellaswag", "hellaswag/hellaswag.yaml", changed, validation=cleaned)


def wikitext_pages(text: str) -> list[str]:
    """As the dataset EleutherAI/wikitext_document_level cuts the file."""
    pages, page = [], []
    for line in text.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            if "\n".join(page).strip():
                pages.append("\n".join(page))
            page = []
        page.append(line)
    return pages + ["\n".join(page)]


def add_wikitext(tasks: LocalTasks, text: str, limit: int | None) -> list[str]:
    pages = wikitext_pages(text)[:limit]
    file = write_lines(tasks.work / "wikitext_pages.jsonl", [{"page": page} for page in pages])
    tasks.add("wikitext", "wikitext/wikitext.yaml", test=file)
    return pages


def arguments_of(sample: dict) -> list[list[str]]:
    arguments = sample["arguments"]
    if isinstance(arguments, dict):
        arguments = [[request["arg_0"], request["arg_1"]] if "arg_1" in request else [request["arg_0"]]
                     for request in arguments.values()]
    return [list(request)[:2] for request in arguments]


def first(value):
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return value


def task_record(samples: list[dict], results: dict) -> dict:
    metrics = {key.split(",")[0]: value for key, value in results.items() if isinstance(value, float)}
    record = {"metrics": {key: value for key, value in metrics.items() if key.split("_stderr")[0] in (
        "acc", "acc_norm", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte") and
        not (key == "perplexity_stderr")}}
    pairs = [[first(response) for response in sample["resps"]] for sample in samples]
    if not isinstance(pairs[0][0], (list, tuple)):
        record["log_likelihoods"] = [round(float(page[0]), 4) for page in pairs]
        return record
    record["log_likelihoods"] = [[round(float(pair[0]), 5) for pair in document] for document in pairs]
    record["greedy"] = ["".join("1" if str(pair[1]) == "True" else "0" for pair in document) for document in pairs]
    if all(isinstance(sample["target"], int) or str(sample["target"]).isdigit() for sample in samples):
        record["gold"] = [int(sample["target"]) for sample in samples]
    return record


def mmlu_group(tasks: dict) -> dict:
    from lm_eval.api.metrics import pooled_sample_stderr

    parts = [(len(task["gold"]), task["metrics"]) for name, task in tasks.items() if name.startswith("mmlu_")]
    sizes = [size for size, _ in parts]
    acc = sum(size * metrics["acc"] for size, metrics in parts) / sum(sizes)
    stderr = pooled_sample_stderr([metrics["acc_stderr"] for _, metrics in parts], sizes)
    return {"metrics": {"acc": acc, "acc_stderr": stderr}}


def run_all(models: dict[str, pathlib.Path], tasks: LocalTasks, keep_requests: bool) -> dict:
    import lm_eval
    import torch
    import transformers
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(1)
    record = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__, "torch": torch.__version__,
              "contexts": CONTEXTS, "runs": []}
    requests = record["requests" if keep_requests else "request_hashes"] = {"0": {}, "5": {}}
    for model, path in models.items():
        for bos in (False, True):
            for shots in (0, 5):
                chosen = tasks.names if shots == 0 else [name for name in tasks.names if "mmlu" in name]
                result = lm_eval.simple_evaluate(
                    model="hf", tasks=chosen, num_fewshot=shots, batch_size=1, bootstrap_iters=100, log_samples=True,
                    model_args={"pretrained": str(path), "dtype": "float32", "add_bos_token": bos, "device": "cpu"},
                    task_manager=TaskManager(include_path=str(tasks.work)))
                run = {"model": model, "bos": bos, "shots": shots, "tasks": {}}
                for name in chosen:
                    samples = sorted(result["samples"][name], key=lambda sample: sample["doc_id"])
                    short = name.removeprefix("local_")
                    run["tasks"][short] = task_record(samples, result["results"][name])
                    if short != "wikitext":
                        asked = [arguments_of(sample) for sample in samples]
                        kept = asked if keep_requests else [
                            fnv1a(*(part for pair in document for text in pair for part in (text, "\0")))
                            for document in asked]
                        assert requests[str(shots)].setdefault(short, kept) == kept, name
                run["tasks"]["mmlu"] = mmlu_group(run["tasks"])
                record["runs"].append(run)
                print(model, bos, shots, {name: task["metrics"] for name, task in run["tasks"].items()}, flush=True)
    return record


def add_page_facts(record: dict, pages: list[str], keep_text: bool) -> None:
    import re

    from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer

    record["wikitext"] = []
    for page in pages:
        target = wikitext_detokenizer({"page": page})
        text = {"target": target} if keep_text else {"target_hash": fnv1a(target)}
        record["wikitext"].append({"words": len(re.split(r"\s+", page)), "bytes": len(page.encode()), **text})


def dump(record: dict, path: pathlib.Path) -> None:
    """One line a task: what a change of a golden changes is seen."""
    runs = record.pop("runs")
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))[:-1] + ',"runs":[\n'
    blocks = []
    for run in runs:
        tasks = run.pop("tasks")
        head = json.dumps(run, separators=(",", ":"))[:-1]
        body = ",\n".join(f'{json.dumps(name)}:{json.dumps(task, separators=(",", ":"))}' for name, task in tasks.items())
        blocks.append(f'{head},"tasks":{{\n{body}}}}}')
    path.write_text(text + ",\n".join(blocks) + "]}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, help="make shared.json from the files of this directory")
    parser.add_argument("--limit", type=int, default=200, help="documents of each task of --data")
    arguments = parser.parse_args()

    if arguments.data is None:
        make_random_llama(OUT / "random-llama")
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        os.environ["HF_HOME"] = str(work / "hf_home")
        models = {"sample-model": with_exact_tokenizer(SAMPLE_MODEL, work / "sample-model"),
                  "random-llama": with_exact_tokenizer(OUT / "random-llama", work / "random-llama")}
        if arguments.data is None:
            tasks = LocalTasks(OUT / "documents", work / "own", None)
            pages = add_wikitext(tasks, (OUT / "documents" / "wiki.test.raw").read_text(encoding="utf-8"), None)
            own = run_all(models, tasks, keep_requests=True)
            add_page_facts(own, pages, keep_text=True)
            dump(own, OUT / "own.json")
            return
        tasks = LocalTasks(arguments.data / "tasks", work / "shared", arguments.limit)
        text = (arguments.data / "wikitext2" / "wiki.test.raw").read_text(encoding="utf-8")
        pages = add_wikitext(tasks, text, 2)
        shared = run_all(models, tasks, keep_requests=False)
        shared["documents"] = arguments.limit
        add_page_facts(shared, pages, keep_text=False)
        dump(shared, OUT / "shared.json")


if __name__ == "__main__":
    main()
