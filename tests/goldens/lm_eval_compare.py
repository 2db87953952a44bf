"""Holds `pq eval --tasks` against lm-evaluation-harness on a model directory, document by document, both in float32.

    pip install torch transformers accelerate "lm_eval[hf]"
    python tests/goldens/lm_eval_compare.py MODEL DATA/tasks [--limit 300] [--tasks piqa,arc_easy,arc_challenge,hellaswag,winogrande] [--pq build/dev/bin/pq]

MODEL is read by both, with the tokenizer of its tokenizer.json; no BOS is added by either. Prints a line a task: acc and acc_norm of both, the documents whose choice
differs, and the largest difference of a log-likelihood. Exits with 1 if a choice differs."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from lm_eval_goldens import LocalTasks, first

PAPER = "piqa,arc_easy,arc_challenge,hellaswag,winogrande"


def with_fast_tokenizer(model: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """The model's directory, with a tokenizer that does what tokenizer.json says."""
    out.mkdir()
    for file in model.iterdir():
        (out / file.name).symlink_to(file.resolve())
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (out / "tokenizer_config.json").unlink()
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    return out


def by_lm_eval(model: pathlib.Path, tasks: LocalTasks, names: list[str]) -> dict[str, list[list[float]]]:
    """Log-likelihoods [document][choice] of each task, and the harness's figures."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    result = lm_eval.simple_evaluate(
        model="hf", tasks=[f"local_{name}" for name in names], num_fewshot=0, batch_size=1, bootstrap_iters=0, log_samples=True,
        model_args={"pretrained": str(model), "dtype": "float32", "add_bos_token": False, "device": "cpu"},
        task_manager=TaskManager(include_path=str(tasks.work)))
    found = {}
    for name in names:
        samples = sorted(result["samples"][f"local_{name}"], key=lambda sample: sample["doc_id"])
        figures = {key.split(",")[0]: value for key, value in result["results"][f"local_{name}"].items() if isinstance(value, float)}
        found[name] = ([[float(first(pair)[0]) for pair in sample["resps"]] for sample in samples], figures)
    return found


def by_pq(pq: str, model: pathlib.Path, data: pathlib.Path, limit: int, names: list[str], work: pathlib.Path):
    subprocess.run([pq, "eval", str(model), "--tasks", ",".join(names), "--tasks-dir", str(data), "--limit", str(limit), "--bos", "no",
                    "--output", str(work), "--log-samples", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    samples = {name: sorted((json.loads(line) for file in work.glob(f"samples_*_{name}_*.jsonl") for line in open(file)),
                            key=lambda sample: sample["doc_id"]) for name in names}
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--tasks", default=PAPER)
    parser.add_argument("--pq", default="build/dev/bin/pq")
    options = parser.parse_args()
    names = options.tasks.split(",")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        os.environ["HF_HOME"] = str(work / "hf_home")
        ours = by_pq(options.pq, options.model, options.data, options.limit, names, work / "pq")
        model = with_fast_tokenizer(options.model, work / "model")
        theirs = by_lm_eval(model, LocalTasks(options.data, work / "lm_eval", options.limit), names)
    for name in names:
        likelihoods, figures = theirs[name]
        samples = ours[name]
        if len(samples) != len(likelihoods):
            sys.exit(f"{name}: {len(samples)} documents of pq, {len(likelihoods)} of lm_eval")
        largest = max(abs(a - b) for sample, want in zip(samples, likelihoods) for a, b in zip(sample["log_likelihoods"], want, strict=True))
        chosen = [max(range(len(want)), key=want.__getitem__) for want in likelihoods]
        different = [i for i, choice in enumerate(chosen) if samples[i]["choice"] != choice]
        acc = sum(sample["choice"] == sample["gold"] for sample in samples) / len(samples)
        line = f"{name}: {len(samples)} documents; acc {acc:.6f} (lm_eval {figures['acc']:.6f})"
        same = not different and abs(acc - figures["acc"]) < 1e-12
        if "acc_norm" in figures:
            norm = sum(sample["choice_norm"] == sample["gold"] for sample in samples) / len(samples)
            line += f", acc_norm {norm:.6f} (lm_eval {figures['acc_norm']:.6f})"
            same = same and abs(norm - figures["acc_norm"]) < 1e-12
        print(f"{'ok  ' if same else 'FAIL'} {line}; choices that differ: {different or 'none'}; largest difference of a log-likelihood {largest:.1e}", flush=True)
        failed = failed or not same
    sys.exit(failed)


if __name__ == "__main__":
    main()
