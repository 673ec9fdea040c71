"""A configuration of Axolotl -> entries of a catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ollamake.catalog.values import KeyPath
from ollamake.importers.entries import Imported, Note, Source, fits, name_of

TRAIN = {  # key of Axolotl's -> key of `train`
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "lora_target_modules": "target_modules",
    "learning_rate": "learning_rate",
    "num_epochs": "epochs",
    "sequence_len": "max_tokens",
    "seed": "seed",
}
# What Axolotl 0.21 takes where it is not told (axolotl/utils/schemas); a catalog has other defaults.
UNSAID = {"num_epochs": 1, "sequence_len": 512, "micro_batch_size": 1, "gradient_accumulation_steps": 1}
RECORDS = (".jsonl", ".json", ".csv", ".parquet", ".gz", ".zst")  # ends of files
BATCH = ("micro_batch_size", "gradient_accumulation_steps")
ELSEWHERE = {"base_model", "datasets", "adapter", "lora_target_linear", *BATCH}
WHY_NOT = {
    "output_dir": "adapters are written to adapters/NAME",
    "load_in_4bit": "the base is not quantized while it is trained",
    "load_in_8bit": "the base is not quantized while it is trained",
    "lora_dropout": "the embedded trainer has no dropout",
    "val_set_size": "every record is trained on",
    "chat_template": "the base's own template is used",
    "sample_packing": "records are not packed",
}


def is_axolotl(value: Any) -> bool:
    """Has the mapping what a configuration must have?"""
    return isinstance(value, dict) and isinstance(value.get("base_model"), str) and value["base_model"] != ""


def from_axolotl(source: Source, value: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> Imported:
    """The model that a configuration trains."""
    notes: list[Note] = []
    train: dict[str, Any] = {}
    told = {**UNSAID, **value}
    for key, own in TRAIN.items():
        said = told.get(key)
        said = int(said) if isinstance(said, float) and said.is_integer() else said
        if said is not None and fits("train", own, said):
            train[own] = said
        elif said is not None:
            notes.append(source.note(lines[(key,)], f"{key}: {said!r} is no value of train.{own}"))
    batch = [told[key] for key in BATCH]
    size = batch[0] * batch[1] if all(isinstance(factor, int) for factor in batch) else None
    if fits("train", "batch_size", size):
        train["batch_size"] = size
    else:
        notes.extend(source.note(lines[(key,)], f"{key}: {value[key]!r} is no number of records") for key in BATCH if key in value)
    name = source.name
    base_name = name_of(value["base_model"].rpartition("/")[2])
    gguf = f"bases/{base_name}.gguf"
    is_path = value["base_model"].startswith((".", "/"))
    hf = source.here(value["base_model"]) if is_path else value["base_model"]
    notes.append(source.note(lines[("base_model",)], f"base_model: it is served from a GGUF, too: put that of {value['base_model']} at {gguf}"))
    notes.extend(_of_adapter(source, value, lines))
    datasets: dict[str, dict[str, Any]] = {}
    entries = value.get("datasets") or []
    for index, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        own_name, files, more = _dataset(source, entry if isinstance(entry, dict) else {"path": entry}, lines.get(("datasets", index), 1))
        datasets[own_name] = {"files": list(dict.fromkeys([*datasets.get(own_name, {"files": []})["files"], *files]))}
        notes.extend(more)
    if not datasets:
        datasets = {name: {"files": [f"datasets/{name}.jsonl"]}}
        notes.append(source.note(1, f"no datasets: write records into datasets/{name}.jsonl"))
    for key, said in value.items():
        if key not in {*TRAIN, *ELSEWHERE} and said not in (None, False, "", 0, [], {}):
            notes.append(source.note(lines[(key,)], f"{key}: {WHY_NOT.get(key, 'there is nothing like it here')}"))
    return Imported(
        kind="Axolotl configuration",
        path=source.path,
        name=name,
        base={base_name: {"gguf": gguf, "hf": hf}},
        datasets=datasets,
        model={"base": base_name, "data": list(datasets), **({"train": train} if train else {})},
        notes=tuple(sorted(notes, key=lambda note: note.mark)),
    )


def _of_adapter(source: Source, value: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> Iterator[Note]:
    adapter = value.get("adapter")
    if adapter == "qlora":
        yield source.note(lines[("adapter",)], "adapter: qlora: a LoRA is trained on the base as it is, not in 4 bits: it takes more memory")
    elif adapter != "lora":
        yield source.note(lines.get(("adapter",), 1), f"adapter: {adapter or 'none'}: a LoRA is trained instead")
    if value.get("lora_target_linear") is False and not value.get("lora_target_modules"):
        yield source.note(lines[("lora_target_linear",)], "lora_target_linear: all linear layers get a LoRA, unless train.target_modules names some")


def _dataset(source: Source, entry: Mapping[str, Any], line: int) -> tuple[str, list[str], list[Note]]:
    """A dataset's name, its files, and what there is to say."""
    path = str(entry.get("path", ""))
    more = entry.get("data_files")
    files = [str(file) for file in (more if isinstance(more, list) else [more] if more else [path])]
    notes: list[Note] = []
    stem = os.path.basename(files[0]).partition(".")[0] if files[0].endswith(RECORDS) else path.rstrip("/").rpartition("/")[2]
    name = name_of(stem)
    if all(file.endswith(RECORDS) for file in files):
        files = [source.here(file) for file in files]
    else:
        files = [f"datasets/{name}.jsonl"]
        notes.append(source.note(line, f"datasets: {path} is no file of records: write them into {files[0]}"))
    if entry.get("type") != "alpaca":
        notes.append(source.note(line, f"datasets: type {entry.get('type')!r}: whether the records can be read, `doit validate:{name}` says"))
    notes.extend(
        source.note(line, f"datasets: {key}: there is nothing like it here") for key in entry if key not in {"path", "type", "ds_type", "data_files"}
    )
    return name, files, notes
