#!/usr/bin/env python3
"""Writes the files that `pq eval --tasks` reads, from the Hugging Face hub (needs a network):

    pip install datasets
    python scripts/fetch-tasks.py DIR [TASK ..]

One file a task, one JSON line a document, with the hub's field names. TASK: any of those below; default: all.
"""

import argparse
import json
import pathlib

# task: [(file, data set, configuration, split, fields)]; the data sets that lm-evaluation-harness reads.
SOURCES = {
    "piqa": [("piqa.jsonl", "baber/piqa", None, "validation", ["goal", "sol1", "sol2", "label"])],
    "arc_easy": [("arc_easy.jsonl", "allenai/ai2_arc", "ARC-Easy", "test", ["question", "choices", "answerKey"])],
    "arc_challenge": [
        ("arc_challenge.jsonl", "allenai/ai2_arc", "ARC-Challenge", "test", ["question", "choices", "answerKey"])
    ],
    "hellaswag": [
        ("hellaswag.jsonl", "Rowan/hellaswag", None, "validation",
         ["activity_label", "ctx_a", "ctx_b", "endings", "label"])
    ],
    "winogrande": [
        ("winogrande.jsonl", "allenai/winogrande", "winogrande_xl", "validation",
         ["sentence", "option1", "option2", "answer"])
    ],
    "mmlu": [
        ("mmlu_test.jsonl", "cais/mmlu", "all", "test", ["question", "subject", "choices", "answer"]),
        ("mmlu_dev.jsonl", "cais/mmlu", "all", "dev", ["question", "subject", "choices", "answer"]),
    ],
    "lambada_openai": [("lambada.jsonl", "EleutherAI/lambada_openai", "default", "test", ["text"])],
    "wikitext": [
        ("wikitext.jsonl", "EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", "test", ["page"])
    ],
}


def write(directory: pathlib.Path, file: str, name: str, configuration: str, split: str, fields: list) -> None:
    import datasets

    rows = datasets.load_dataset(name, configuration, split=split)
    partial = directory / (file + ".partial")
    with partial.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps({field: row[field] for field in fields}, ensure_ascii=False) + "\n")
    partial.rename(directory / file)
    print(f"{directory / file}: {len(rows)} documents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, metavar="DIR")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(SOURCES))
    arguments = parser.parse_args()
    unknown = [task for task in arguments.tasks if task not in SOURCES]
    if unknown:
        parser.error(f"no task {unknown[0]}: known are {', '.join(SOURCES)}")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks or SOURCES:
        for source in SOURCES[task]:
            write(arguments.directory, *source)


if __name__ == "__main__":
    main()
