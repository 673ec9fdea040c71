"""A configuration of Axolotl -> entries of a catalog."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, count
from typing import Any

from ollamake.catalog.values import KeyPath
from ollamake.importers.entries import Imported, Note, Source, fits, name_of, not_carried

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
FILE = re.compile(r"(.*?)((?:\.(?:jsonl|json|csv|tsv|parquet|gz|zst))*)", re.DOTALL)  # a name, and what tells that it is a file of records
READERS = {"json", "csv", "parquet"}  # as `path`: how `data_files` are read, and not where they are
BATCH = {"micro_batch_size": "records", "gradient_accumulation_steps": "steps"}  # whose product is a batch -> what they count
ELSEWHERE = {"base_model", "datasets", "adapter", "lora_target_linear", *BATCH}
OF_A_DATASET = {"path", "type", "ds_type", "data_files"}
WHY_NOT = {
    "output_dir": "adapters are written to adapters/NAME",
    "load_in_4bit": "the base is not quantized while it is trained",
    "load_in_8bit": "the base is not quantized while it is trained",
    "lora_dropout": "the embedded trainer has no dropout",
    "val_set_size": "`holdout` of a dataset takes a share of its records, above 0 and below 1",
    "chat_template": "the base's own template is used",
    "sample_packing": "records are not packed",
}


def is_axolotl(value: Any) -> bool:
    """Has the mapping what a configuration must have?"""
    return isinstance(value, dict) and isinstance(value.get("base_model"), str) and value["base_model"] != ""


def from_axolotl(source: Source, value: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> Imported:
    """The model that a configuration trains."""
    told = {**UNSAID, **{key: said for key, said in value.items() if said is not None}}
    train, of_train = _train(source, told, lines)
    base, of_base = _base(source, value["base_model"], lines[("base_model",)])
    datasets, of_datasets = _datasets(source, value, lines)
    share = value.get("val_set_size")
    held_out = isinstance(share, float) and 0 < share < 1
    carried = {*TRAIN, *ELSEWHERE, *(["val_set_size"] if held_out else [])}
    left = not_carried(source, ((key, said, lines[(key,)]) for key, said in value.items() if key not in carried), WHY_NOT)
    notes = [*of_train, *of_base, *of_datasets, *_of_adapter(source, value, lines), *left]
    return Imported(
        kind="Axolotl configuration",
        path=source.path,
        name=source.name,
        base=base,
        datasets={name: {"files": files, **({"holdout": share} if held_out else {})} for name, files in datasets.items()},
        model={"base": next(iter(base)), "data": list(datasets), **({"train": train} if train else {})},
        notes=tuple(sorted(notes, key=lambda note: note.mark)),
    )


def _train(source: Source, told: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> tuple[dict[str, Any], list[Note]]:
    """The recipe, and what of it is no value of ours."""
    train: dict[str, Any] = {}
    notes: list[Note] = []
    for key, own in TRAIN.items():
        said = _whole(told.get(key))
        if said is not None and fits("train", own, said):
            train[own] = said
        elif said is not None:
            notes.append(source.note(lines[(key,)], f"{key}: {said!r} is no value of train.{own}"))
    factors = {key: _whole(told[key]) for key in BATCH}
    wrong = [key for key, factor in factors.items() if not fits("train", "batch_size", factor)]
    notes.extend(source.note(lines[(key,)], f"{key}: {factors[key]!r} is no number of {BATCH[key]}") for key in wrong)
    if not wrong:
        train["batch_size"] = factors["micro_batch_size"] * factors["gradient_accumulation_steps"]
    return train, notes


def _whole(value: Any) -> Any:
    """3 for 3.0; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _base(source: Source, model: str, line: int) -> tuple[dict[str, dict[str, str]], list[Note]]:
    """The base, by its name, and what is to be done for it."""
    name = name_of(model.rstrip("/").rpartition("/")[2])
    gguf = f"bases/{name}.gguf"
    hf = source.here(model) if model.startswith((".", "/")) or model.endswith("/") else model
    return {name: {"gguf": gguf, "hf": hf}}, [
        source.note(line, f"base_model: it is served from a GGUF, too: put that of {model} at {gguf}"),
    ]


def _of_adapter(source: Source, value: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> Iterator[Note]:
    adapter = value.get("adapter")
    if adapter == "qlora":
        yield source.note(lines[("adapter",)], "adapter: qlora: a LoRA is trained on the base as it is, not in 4 bits: it takes more memory")
    elif adapter != "lora":
        yield source.note(lines.get(("adapter",), 1), f"adapter: {adapter or 'none'}: a LoRA is trained instead")
    if value.get("lora_target_linear") is False and not value.get("lora_target_modules"):
        yield source.note(lines[("lora_target_linear",)], "lora_target_linear: all linear layers get a LoRA, unless train.target_modules names some")


def _datasets(source: Source, value: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> tuple[dict[str, list[str]], list[Note]]:
    """The files of each dataset, by its name, and what there is to say. Entries of another path or type are other datasets: one dataset has one format."""
    datasets: dict[str, list[str]] = {}
    notes: list[Note] = []
    names: dict[tuple[str, str], str] = {}  # path and type -> the dataset
    entries = value.get("datasets") or []
    for index, said in enumerate(entries if isinstance(entries, list) else [entries]):
        entry = said if isinstance(said, dict) else {"path": said}
        path, kind = str(entry.get("path") or ""), entry.get("type")
        name = names.setdefault((path, repr(kind)), _free_name(path, names.values()))
        files, to_do = _files(source, path, entry.get("data_files"), name)
        datasets[name] = list(dict.fromkeys([*datasets.get(name, []), *files]))
        line = lines.get(("datasets", index), lines[("datasets",)])
        if to_do:
            notes.append(source.note(line, f"datasets: {to_do}"))
        if kind != "alpaca":
            notes.append(source.note(line, f"datasets: type {kind!r}: whether the records can be read, `doit validate:{name}` says"))
        notes.extend(not_carried(source, ((f"datasets: {key}", said, line) for key, said in entry.items() if key not in OF_A_DATASET), {}))
    if not datasets:
        datasets[source.name] = [f"datasets/{source.name}.jsonl"]
        notes.append(source.note(1, f"no datasets: write records into datasets/{source.name}.jsonl"))
    return datasets, notes


def _free_name(path: str, taken: Collection[str]) -> str:
    """A name for the dataset of this path that none has yet: that of the file, with its folder's before it, or with a number behind it."""
    folder, file = os.path.split(path.partition("?")[0].rstrip("/"))
    stem, _ = _parts(file)
    numbered = (f"{name_of(stem)[:70]}-{number}" for number in count(2))
    return next(name for name in chain((name_of(stem), name_of(f"{os.path.basename(folder)}-{stem}")), numbered) if name not in taken)


def _parts(file: str) -> tuple[str, str]:
    """A file's name without its ending, and the ending; that is empty where it is no file of records."""
    found = FILE.fullmatch(file)
    assert found is not None
    return found[1], found[2]


def _files(source: Source, path: str, data_files: Any, name: str) -> tuple[list[str], str]:
    """The files of one entry, and what is to be done for them; empty where nothing is."""
    listed = [str(file) for file in (data_files if isinstance(data_files, list) else [data_files] if data_files else [])]
    own = f"datasets/{name}"
    _, ending = _parts(path.partition("?")[0])
    if "://" in path:
        file = f"{own}{ending or '.jsonl'}"
        return [file], f"{path} is not on this machine: {'fetch it to' if ending else 'write its records into'} {file}"
    if ending:  # `data_files` of a file are not read
        return [source.here(path)], ""
    if not listed or not all(_parts(file)[1] for file in listed):
        return [f"{own}.jsonl"], f"{path or 'an entry without a path'} is no file of records: write them into {own}.jsonl"
    if any("://" in file for file in listed) or not _is_here(path):
        fetched = {file: f"{own}/{os.path.basename(file) if '://' in file else posixpath.normpath(f'/{file}').lstrip('/')}" for file in listed}
        what = "" if path in READERS else f"{path} is a dataset of Hugging Face: "
        return list(fetched.values()), f"{what}fetch {', '.join(f'{file} to {to}' for file, to in fetched.items())}"
    return [source.here(file) for file in listed], _where(path, listed)


def _is_here(path: str) -> bool:
    """Are the `data_files` of this path local ones? Axolotl takes a folder that is there before a dataset of Hugging Face."""
    return path in READERS or path.startswith((".", "/")) or path.endswith("/") or os.path.isdir(path)


def _where(path: str, listed: list[str]) -> str:
    """What is not certain of `data_files` beside a folder: Axolotl reads them from the working directory, and documents that it reads them from the folder."""
    folder = os.path.normpath(path)
    if path in READERS or all(os.path.isabs(file) or os.path.normpath(file).startswith(f"{folder}{os.sep}") for file in listed):
        return ""
    return f"data_files: taken from the working directory, as Axolotl does; where they are in {path}, write that before them"
