"""`doit import`: what others have written becomes entries of a catalog, and what could not be carried over is said."""

from __future__ import annotations

import codecs
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import CATALOG, Repo, jsonl
from ollamake.catalog.load import load_catalog
from ollamake.catalog.marked_yaml import parse
from ollamake.errors import BuildError
from ollamake.importers.modelfile import FROM, instructions
from ollamake.importers.recognise import default_name, imported
from ollamake.importers.write import added_to, catalog_text
from ollamake.locks import try_lock
from ollamake.state.run_lock import RunLock

MODELFILE = '''\
# The lawyer.
FROM llama3.2:3b
ADAPTER ./lora/adapter_model.safetensors
PARAMETER temperature 0.2
parameter stop "<|user|>"
PARAMETER stop "1e5"
PARAMETER mirostat 2
SYSTEM """You are
a lawyer."""
TEMPLATE """{{ .System }} # no comment
{{ .Prompt }}"""
MESSAGE user Hi there
LICENSE """
MIT
"""
'''
FROM_MODELFILE = """\
version: 1
bases:
  llama3.2-3b: {gguf: bases/llama3.2-3b.gguf}
models:
  # From legal/Modelfile, a Modelfile. Not carried over, or to be done:
  #   line 2: llama3.2:3b is a model in Ollama. `ollama show --modelfile llama3.2:3b` names its GGUF behind FROM: copy that to bases/llama3.2-3b.gguf
  #   line 7: PARAMETER mirostat 2: Ollama has no such parameter, or not with this value
  #   line 12: MESSAGE: there are no example messages here
  #   line 13: LICENSE: a catalog has no licences
  legal:
    base: llama3.2-3b
    adapter: legal/lora
    serve:
      system: |-
        You are
        a lawyer.
      template: |-
        {{ .System }} # no comment
        {{ .Prompt }}
      parameters:
        temperature: 0.2
        stop: [<|user|>, '1e5']
"""
RECIPE = """\
name: My Model
hf_repo: TheBloke/Llama-2-7B-GGUF
gguf_file: llama.Q4_K_M.gguf
quant: Q4_K_M
system: "You serve {{ town }} in ${LAND}."
temperature: 0.4
top_p: 7
adapter: adapters/x
template_from: llama3.2
variables: {town: Ulm}
"""
FROM_RECIPE = """\
version: 1
bases:
  llama.q4_k_m: {gguf: bases/llama.Q4_K_M.gguf}
models:
  # From recipe.yaml, an ollama-forge recipe. Not carried over, or to be done:
  #   line 2: TheBloke/Llama-2-7B-GGUF is a repo of Hugging Face: fetch its GGUF to bases/llama.Q4_K_M.gguf
  #   line 4: quant: the base is used as it is
  #   line 7: top_p: there is nothing like it here, or not with this value
  #   line 9: template_from: the template is the one that Ollama finds for the base; serve.template sets another
  my-model:
    base: llama.q4_k_m
    adapter: adapters/x
    serve:
      system: You serve Ulm in $${LAND}.
      parameters: {temperature: 0.4}
"""
AXOLOTL = """\
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
load_in_4bit: true
datasets:
  - path: data/support.jsonl
    type: alpaca
  - path: tatsu-lab/alpaca
    type: chat_template
    split: train
adapter: qlora
lora_r: 8
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
sequence_len: 2048
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3.0
learning_rate: 2e-4
seed: 7
optimizer: adamw_torch
output_dir: ./out
wandb_project:
"""
FROM_AXOLOTL = """\
version: 1
bases:
  smollm2-135m-instruct: {gguf: bases/smollm2-135m-instruct.gguf, hf: HuggingFaceTB/SmolLM2-135M-Instruct}
datasets:
  support:
    files: [data/support.jsonl]
  alpaca:
    files: [datasets/alpaca.jsonl]
models:
  # From desk.yml, an Axolotl configuration. Not carried over, or to be done:
  #   line 1: base_model: it is served from a GGUF, too: put that of HuggingFaceTB/SmolLM2-135M-Instruct at bases/smollm2-135m-instruct.gguf
  #   line 2: load_in_4bit: the base is not quantized while it is trained
  #   line 6: datasets: tatsu-lab/alpaca is no file of records: write them into datasets/alpaca.jsonl
  #   line 6: datasets: type 'chat_template': whether the records can be read, `doit validate:alpaca` says
  #   line 6: datasets: split: there is nothing like it here
  #   line 9: adapter: qlora: a LoRA is trained on the base as it is, not in 4 bits: it takes more memory
  #   line 12: lora_dropout: the embedded trainer has no dropout
  #   line 20: optimizer: there is nothing like it here
  #   line 21: output_dir: adapters are written to adapters/NAME
  desk:
    base: smollm2-135m-instruct
    data: [support, alpaca]
    train: {rank: 8, alpha: 16, learning_rate: 0.0002, epochs: 3, max_tokens: 2048, seed: 7, batch_size: 8}
"""
DATASETS = "datasets: [{path: a.jsonl, type: alpaca}, {path: b.jsonl, type: alpaca}]\n"
FILES = {"legal/Modelfile": (MODELFILE, FROM_MODELFILE), "recipe.yaml": (RECIPE, FROM_RECIPE), "desk.yml": (AXOLOTL, FROM_AXOLOTL)}


def notes_of(text: str, path: str = "Modelfile") -> list[str]:
    return [note.text for note in imported(path, text, name="desk", folder="").notes]


@pytest.mark.parametrize("path", FILES)
def test_a_file_becomes_a_catalog_without_fault(repo: Repo, path: str) -> None:
    text, catalog = FILES[path]
    Path("legal").mkdir()
    Path(path).write_text(text, encoding="utf-8")
    result = repo.doit("import", path)
    assert (result.code, result.out, result.err) == (0, catalog, "")
    Path("data").mkdir()
    for records in ("data/support.jsonl", "datasets/alpaca.jsonl"):
        Path(records).write_text(jsonl({"instruction": "Who?", "output": "I."}), encoding="utf-8")
    Path("models.yaml").write_text(catalog, encoding="utf-8")
    assert load_catalog(Path("models.yaml"), trainers=["peft"]).warnings == ()


def test_what_is_written_leaves_the_catalog_as_it_is(repo: Repo) -> None:
    Path("legal").mkdir()
    for path, (text, _) in FILES.items():
        Path(path).write_text(text, encoding="utf-8")
    before = CATALOG.replace("models:\n", "\n# All of them.\nmodels:  # by name\n") + "\n# The end.\n"
    Path("models.yaml").write_text(before, encoding="utf-8")
    result = repo.doit("import", "--write", "legal/Modelfile", "recipe.yaml", "desk.yml")
    assert (result.code, result.err) == (3, "ERROR: \nmodels.yaml:12: there is another model 'legal' already, and legal/Modelfile has one\n  fix: name the model otherwise, with --name; or paste what `doit import` prints without --write\n")  # fmt: skip
    assert Path("models.yaml").read_text(encoding="utf-8") == before
    result = repo.doit("import", "recipe.yaml", "desk.yml", "--write")
    assert result.code == 0
    assert result.out.startswith(
        "models.yaml: model my-model from recipe.yaml\n"
        "  recipe.yaml:2: TheBloke/Llama-2-7B-GGUF is a repo of Hugging Face: fetch its GGUF to bases/llama.Q4_K_M.gguf\n"
    )
    after = Path("models.yaml").read_text(encoding="utf-8").splitlines()
    kept = iter(after)
    assert all(line in kept for line in before.splitlines())  # each, in its order
    assert after[after.index("  tiny: {gguf: base.gguf}") + 1] == "  llama.q4_k_m: {gguf: bases/llama.Q4_K_M.gguf}"
    assert after[-2:] == ["", "# The end."]
    assert after[after.index("# All of them.") - 1] == ""
    for records in ("data/support.jsonl", "datasets/alpaca.jsonl"):
        Path(records).parent.mkdir(exist_ok=True)
        Path(records).write_text(jsonl({"instruction": "Who?", "output": "I."}), encoding="utf-8")
    assert [line.split()[0] for line in repo.doit("ls").out.splitlines()] == ["legal", "sales", "my-model", "desk"]


def test_two_models_share_a_base(repo: Repo) -> None:
    for name in ("one", "two"):
        Path(f"{name}.Modelfile").write_text("FROM ./base.gguf\nADAPTER lora\n", encoding="utf-8")
    assert repo.doit("import", "one.Modelfile", "two.Modelfile").out == (
        "version: 1\n"
        "bases:\n"
        "  base: {gguf: base.gguf}\n"
        "models:\n"
        "  # From one.Modelfile, a Modelfile.\n"
        "  one: {base: base, adapter: lora}\n"
        "  # From two.Modelfile, a Modelfile.\n"
        "  two: {base: base, adapter: lora}\n"
    )


def test_a_catalog_that_is_not_there_is_written(repo: Repo) -> None:
    Path("Modelfile.desk").write_text("FROM ./base.gguf\nADAPTER lora\n", encoding="utf-8")
    Path("sub").mkdir()
    assert (
        repo.doit("import", "--write", "--catalog", "sub/new.yaml", "--name", "front-desk", "Modelfile.desk").out
        == "sub/new.yaml: model front-desk from Modelfile.desk\n"
    )
    assert Path("sub/new.yaml").read_text(encoding="utf-8") == (
        "version: 1\nbases:\n  base: {gguf: ../base.gguf}\nmodels:\n  # From Modelfile.desk, a Modelfile.\n  front-desk: {base: base, adapter: ../lora}\n"
    )


@pytest.mark.parametrize("below", ["", "# none yet\n", "  # none yet\n", "\n# The end.\n"])
def test_a_section_with_nothing_in_it_gets_its_first_entry(below: str) -> None:
    one = imported("Modelfile", "FROM ./base.gguf\nADAPTER lora\n", name="desk", folder="")
    text = added_to(f"version: 1\nbases:\n  base: {{gguf: base.gguf}}\nmodels:\n{below}", "models.yaml", [one])
    assert parse(text, "models.yaml")[0]["models"] == {"desk": {"base": "base", "adapter": "lora"}}
    assert below in text


def test_a_catalog_that_is_a_link_stays_one_and_its_file_keeps_its_mode_and_byte_order_mark(repo: Repo) -> None:
    Path("Modelfile.desk").write_text("FROM ./base.gguf\nADAPTER lora\n", encoding="utf-8")
    Path("shared").mkdir()
    Path("models.yaml").rename("shared/real.yaml")
    real = Path("shared/real.yaml")
    real.write_text(CATALOG, encoding="utf-8-sig")
    real.chmod(0o640)
    Path("models.yaml").symlink_to(real)
    assert repo.doit("import", "--write", "Modelfile.desk").code == 0
    assert Path("models.yaml").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_bytes().startswith(codecs.BOM_UTF8 + b"version: 1\n")
    assert "  desk: {base: base, adapter: lora}\n" in real.read_text(encoding="utf-8-sig")


def test_nothing_is_written_while_a_build_is_on(repo: Repo) -> None:
    Path("Modelfile.desk").write_text("FROM ./base.gguf\nADAPTER lora\n", encoding="utf-8")
    build = RunLock(Path.cwd())
    build.hold()
    try:
        result = repo.doit("import", "--write", "Modelfile.desk")  # started by the build, as its environment says: to wait would be for ever
        assert (result.code, result.out) == (3, "")
        assert "this repo is being built" in result.err
        assert Path("models.yaml").read_text(encoding="utf-8") == CATALOG
        assert repo.doit("import", "Modelfile.desk").code == 0
    finally:
        build.release()
    assert repo.doit("import", "--write", "Modelfile.desk").code == 0
    assert try_to_hold(repo.path)


def try_to_hold(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def test_files_that_do_not_go_together_are_said_to_be_imported_by_themselves(repo: Repo) -> None:
    for name in ("one", "two"):
        Path(f"{name}.yml").write_text(f"base_model: a/b\ndatasets: [{{path: {name}/train.jsonl, type: alpaca}}]\n", encoding="utf-8")
    for more in ((), ("--write",)):
        assert repo.doit("import", "one.yml", "two.yml", *more).err == (
            "ERROR: \nthere is another dataset 'train' already, and two.yml has one\n  fix: import each file by itself, and rename one of the two\n"
        )


def test_line_ends_stay_as_they_are() -> None:
    one = imported("Modelfile", "FROM ./base.gguf\r\nADAPTER lora\r\n", name="desk", folder="")
    text = added_to(CATALOG.replace("\n", "\r\n"), "models.yaml", [one])
    assert text.count("\r\n") == text.count("\n")
    assert text.endswith("  desk: {base: base, adapter: lora}\r\n")


def test_an_adapter_beside_the_catalog_is_that_folder() -> None:
    one = imported("Modelfile", "FROM ./base.gguf\nADAPTER ./adapter_model.safetensors\n", name="desk", folder="")
    assert one.model == {"base": "base", "adapter": "."}
    catalog_text([one])  # by the schema


def test_a_modelfile_may_say_where_the_home_of_its_user_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    one = imported("legal/Modelfile", "FROM ~/models/x.gguf\nADAPTER ~/ad\n", name="desk", folder="")
    assert one.base == {"x": {"gguf": "/home/ada/models/x.gguf"}}
    assert one.model == {"base": "x", "adapter": "/home/ada/ad"}


def test_FROM_is_looked_for_in_each_line_by_itself() -> None:  # noqa: N802
    found = FROM.search("\n \n\tFROM x\n")
    assert found is not None
    assert found.start() == 3
    assert FROM.search("\nfrom\n\nx\n") is None


def test_a_modelfile_without_an_adapter_is_to_be_trained() -> None:
    one = imported("Modelfile", "FROM ./base.gguf\nSYSTEM You are the desk.\n", name="desk", folder="")
    assert one.model == {"base": "base", "data": ["desk"], "train": {"system": "You are the desk."}}
    assert one.datasets == {"desk": {"files": ["datasets/desk.jsonl"]}}
    assert [note.text for note in one.notes] == [
        "no adapter that can be taken: write the records that the model is to be trained on into datasets/desk.jsonl"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM ./weights\nADAPTER a\n", ["FROM ./weights: no GGUF, which a base is served from: convert it, and put it at bases/weights.gguf"]),
        (
            "FROM ./b.gguf\nADAPTER a.bin\n",
            [
                "no adapter that can be taken: write the records that the model is to be trained on into datasets/desk.jsonl",
                "ADAPTER a.bin: only folders of a PEFT adapter and GGUF LoRAs are taken",
            ],
        ),
        ("FROM ./b.gguf\nADAPTER a.gguf\n", []),
        ("FROM ./b.gguf\nADAPTER a\nADAPTER b\n", ["ADAPTER b: a second one; the first is taken"]),
        ("FROM ./b.gguf\nADAPTER a\nRENDERER x\n", ["RENDERER: there is nothing like it here"]),
        ("FROM ./b.gguf\nADAPTER a\nPARAMETER num_ctx lots\n", ["PARAMETER num_ctx lots: Ollama has no such parameter, or not with this value"]),
        ("FROM /models/blobs/sha256-12ab\nADAPTER a\n", []),
    ],
)
def test_what_a_modelfile_says_and_a_catalog_does_not(text: str, said: list[str]) -> None:
    assert notes_of(text) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("adapter: lora\nlora_dropout: 0\n", []),
        ("", ["adapter: none: a LoRA is trained instead"]),
        ("adapter: lora\nlora_r: 1.5\n", ["lora_r: 1.5 is no value of train.rank"]),
        ("adapter: lora\nmicro_batch_size: -1\n", ["micro_batch_size: -1 is no number of records"]),
        ("adapter: lora\nmicro_batch_size: 2\ngradient_accumulation_steps: auto\n", ["gradient_accumulation_steps: 'auto' is no number of steps"]),
        ("adapter: lora\nval_set_size: 200\n", ["val_set_size: `holdout` of a dataset takes a share of its records, above 0 and below 1"]),
        ("adapter: lora\nval_set_size: 0.0\n", []),
        ("adapter: lora\nlora_target_linear: false\n", ["lora_target_linear: all linear layers get a LoRA, unless train.target_modules names some"]),
    ],
)
def test_what_a_configuration_of_axolotl_says_and_a_catalog_does_not(line: str, said: list[str]) -> None:
    text = f"base_model: org/base\ndatasets: [{{path: a.jsonl, type: alpaca}}]\n{line}"
    assert [note for note in notes_of(text) if not note.startswith("base_model: ")] == said


def test_what_a_configuration_of_axolotl_leaves_out_is_as_axolotl_has_it() -> None:
    one = imported("desk.yml", "base_model: ./weights\nadapter: lora\nbf16: auto\n", name="", folder="")
    assert one.model == {"base": "weights", "data": ["desk"], "train": {"epochs": 1, "max_tokens": 512, "batch_size": 1}}
    assert one.base == {"weights": {"gguf": "bases/weights.gguf", "hf": "weights"}}
    assert [note.text for note in one.notes] == [
        "base_model: it is served from a GGUF, too: put that of ./weights at bases/weights.gguf",
        "no datasets: write records into datasets/desk.jsonl",
        "bf16: there is nothing like it here",
    ]


def test_a_key_of_axolotl_without_a_value_is_as_axolotl_has_it() -> None:
    one = imported("desk.yml", "base_model: org/base\nnum_epochs: null\nmicro_batch_size:\n", name="", folder="")
    assert one.model["train"] == {"epochs": 1, "max_tokens": 512, "batch_size": 1}


@pytest.mark.parametrize("base", ["./models/llama/", "models/llama/", "/srv/models/llama/"])
def test_a_base_of_axolotl_in_a_folder_is_named_by_it(base: str) -> None:
    one = imported("desk.yml", f"base_model: {base}\n", name="", folder="")
    assert one.base == {"llama": {"gguf": "bases/llama.gguf", "hf": base if base.startswith("/") else "models/llama"}}


def test_the_share_that_axolotl_validates_by_is_held_out() -> None:
    one = imported("desk.yml", f"base_model: org/base\nadapter: lora\n{DATASETS}val_set_size: 0.05\n", name="", folder="")
    assert one.datasets == {"a": {"files": ["a.jsonl"], "holdout": 0.05}, "b": {"files": ["b.jsonl"], "holdout": 0.05}}
    assert [note.text for note in one.notes if not note.text.startswith("base_model: ")] == []
    catalog_text([one])  # by the schema


def test_datasets_of_axolotl_of_another_path_or_type_are_other_datasets() -> None:
    entries = [
        ("a/train.jsonl", "alpaca"),
        ("b/train.jsonl", "sharegpt"),
        ("a/train.jsonl", "sharegpt"),
        ("b/b/train.jsonl", "alpaca"),
        ("a/train.jsonl", "alpaca"),
    ]
    datasets = "".join(f"  - {{path: {path}, type: {kind}}}\n" for path, kind in entries)
    one = imported("desk.yml", f"base_model: org/base\ndatasets:\n{datasets}", name="", folder="")
    assert one.datasets == {
        "train": {"files": ["a/train.jsonl"]},
        "b-train": {"files": ["b/train.jsonl"]},
        "a-train": {"files": ["a/train.jsonl"]},
        "train-2": {"files": ["b/b/train.jsonl"]},
    }
    assert one.model["data"] == list(one.datasets)


@pytest.mark.parametrize(
    ("entry", "name", "files", "said"),
    [
        (
            "path: https://h.org/v1.2.jsonl.gz?x=1",
            "v1.2",
            ["datasets/v1.2.jsonl.gz"],
            "https://h.org/v1.2.jsonl.gz?x=1 is not on this machine: fetch it to datasets/v1.2.jsonl.gz",
        ),
        ("path: s3://bucket/set", "set", ["datasets/set.jsonl"], "s3://bucket/set is not on this machine: write its records into datasets/set.jsonl"),
        ("path: org/set", "set", ["datasets/set.jsonl"], "org/set is no file of records: write them into datasets/set.jsonl"),
        (
            "path: org/set, data_files: [d/x.jsonl, ../y.jsonl]",
            "set",
            ["datasets/set/d/x.jsonl", "datasets/set/y.jsonl"],
            "org/set is a dataset of Hugging Face: fetch d/x.jsonl to datasets/set/d/x.jsonl, ../y.jsonl to datasets/set/y.jsonl",
        ),
        ("path: json, data_files: https://h.org/x.jsonl", "json", ["datasets/json/x.jsonl"], "fetch https://h.org/x.jsonl to datasets/json/x.jsonl"),
        ("path: json, data_files: d/x.jsonl", "json", ["d/x.jsonl"], None),
        ("path: ./set, data_files: set/x.jsonl", "set", ["set/x.jsonl"], None),
        (
            "path: ./set, data_files: x.jsonl",
            "set",
            ["x.jsonl"],
            "data_files: taken from the working directory, as Axolotl does; where they are in ./set, write that before them",
        ),
        ("path: org/set, data_files: x.arrow", "set", ["datasets/set.jsonl"], "org/set is no file of records: write them into datasets/set.jsonl"),
    ],
)
def test_where_the_records_of_axolotl_are_to_be_put(entry: str, name: str, files: list[str], said: str | None) -> None:
    one = imported("desk.yml", f"base_model: org/base\nadapter: lora\ndatasets:\n  - {{{entry}, type: alpaca}}\n", name="", folder="")
    assert one.datasets == {name: {"files": files}}
    assert [note.text for note in one.notes][1:] == ([f"datasets: {said}"] if said else [])


def test_a_folder_that_is_here_is_no_dataset_of_hugging_face(repo: Repo) -> None:
    Path("org/set").mkdir(parents=True)
    one = imported("desk.yml", "base_model: org/base\ndatasets: [{path: org/set, data_files: org/set/x.jsonl, type: alpaca}]\n", name="", folder="")
    assert one.datasets == {"set": {"files": ["org/set/x.jsonl"]}}


def test_a_modelfile_is_read_as_ollama_reads_it() -> None:
    text = '  from x\n\n# c\nSYSTEM "one\ntwo"\nTEMPLATE """a "b"\n  c"""\nmessage assistant hi "there"\nPARAMETER stop " a "\nADAPTER\n'
    found = [(said.line, said.word, said.key, said.value) for said in instructions(text, "Modelfile")]
    assert found == [
        (1, "from", "", "x"),
        (4, "system", "", "one\ntwo"),
        (6, "template", "", 'a "b"\n  c'),
        (8, "message", "assistant", 'hi "there"'),
        (9, "parameter", "stop", " a "),
        (10, "adapter", "", ""),
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("legal/Modelfile", "legal"),
        ("/srv/legal/Modelfile", "legal"),
        ("/Modelfile", "model"),
        ("legal/modelfile.yml", "legal"),
        ("Modelfile.legal", "legal"),
        ("llama3.2-legal.Modelfile", "llama3.2-legal"),
        ("Modelfile.llama3.2-legal", "llama3.2-legal"),
        ("llama3.2-legal.yml", "llama3.2-legal"),
        ("x/legal.Modelfile", "legal"),
        ("Legal Desk.yml", "legal-desk"),
        ("§.yml", "model"),
    ],
)
def test_a_model_is_named_by_its_file(path: str, name: str) -> None:
    assert default_name(path) == name


def test_a_modelfile_where_one_works_is_named_by_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "front-desk").mkdir()
    monkeypatch.chdir(tmp_path / "front-desk")
    assert default_name("Modelfile") == "front-desk"


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("", (), "usage: doit import FILE... [--write], or doit import FILE --name NAME"),
        ("", ("a", "b", "--name", "c"), "usage: doit import FILE... [--write], or doit import FILE --name NAME"),
        ("", ("gone",), "\ngone: No such file or directory\n  fix: put it there"),
        (
            "hello: there\n",
            ("file",),
            "\nfile: neither an Ollama Modelfile (FROM), nor an Axolotl configuration (base_model), nor an ollama-forge recipe (name, and base, gguf or hf_repo)\n"
            "  fix: name a file of one of these kinds",
        ),
        (
            "from a import b\n",
            ("file",),
            "\nfile: neither an Ollama Modelfile (FROM), nor an Axolotl configuration (base_model), nor an ollama-forge recipe (name, and base, gguf or hf_repo)\n"
            "  fix: name a file of one of these kinds",
        ),
        ("", ("/dev/null",), "\n/dev/null: no file\n  fix: name a file: a Modelfile, a recipe, or an Axolotl configuration"),
        ('FROM x\nSYSTEM """no end\n', ("file",), '\nfile:2: SYSTEM: its quotes are not closed\n  fix: close them: """'),
        ('SYSTEM """\nfrom x\n"""\n', ("file",), "\nfile:1: a Modelfile without FROM\n  fix: write FROM and the base"),
        (
            "FROM x\nADAPTER a\n",
            ("file", "--name", "datasets"),
            "\nfile: model 'datasets': build/datasets is where the markers of datasets are\n  fix: give the model another name, with --name",
        ),
        (
            'name: x\nbase: "{{b}}"\nvariables: {b: ""}\n',
            ("file",),
            "\nfile:2: base: nothing is left of it when the recipe's variables are in their places\n"
            "  fix: write the base's name, or give the variable a value",
        ),
        (
            "FROM ./tiny.gguf\nADAPTER a\n",
            ("file", "file"),
            "\nthere is another model 'file' already, and file has one\n  fix: import each file by itself, this one with --name",
        ),
        (
            "FROM ./tiny.gguf\nADAPTER a\n",
            ("file", "--write"),
            "\nmodels.yaml:5: there is another base 'tiny' already, and file has one\n  fix: rename that one; or paste what `doit import` prints without --write",
        ),
    ],
)
def test_mistakes_are_said(repo: Repo, text: str, arguments: tuple[str, ...], said: str) -> None:
    Path("file").write_text(text, encoding="utf-8")
    result = repo.doit("import", *arguments)
    assert (result.code, result.out, result.err) == (3, "", f"ERROR: {said}\n")
    assert Path("models.yaml").read_text(encoding="utf-8") == CATALOG


@pytest.mark.parametrize(
    ("catalog", "said"),
    [
        (
            "version: 1\nbases: {tiny: {gguf: base.gguf}}\nmodels: {}\n",
            "models.yaml:2: bases are written in one line\n  fix: give each of them a line of its own; or paste what `doit import` prints without --write",
        ),
        (
            "version: 1\nmodels: {}\n",
            "models.yaml:2: models are written in one line\n  fix: give each of them a line of its own; or paste what `doit import` prints without --write",
        ),
        ("version: 1\nbases: [a]\n", 'models.yaml:2: bases: ["a"] is not a mapping'),
        (
            "version: 1\nmodels: abc\nmodel: {}\n",
            "models.yaml:2: models: \"abc\" is not a mapping\nmodels.yaml:3: unknown key 'model'\n"
            "  fix: write 'models' (known: bases, cache, datasets, defaults, engine, env, include, models, ollama, policy, sinks, version)",
        ),
        ("- version\n", 'models.yaml:1: ["version"] is not a mapping'),
        (
            "{version: 1}\n",
            "models.yaml: there is no place in it where entries could be written\n  fix: paste what `doit import` prints without --write",
        ),
    ],
)
def test_a_catalog_with_no_place_for_entries_is_left_alone(repo: Repo, catalog: str, said: str) -> None:
    Path("models.yaml").write_text(catalog, encoding="utf-8")
    Path("Modelfile").write_text("FROM ./b.gguf\nADAPTER a\n", encoding="utf-8")
    result = repo.doit("import", "Modelfile", "--write")
    assert (result.code, result.err) == (3, f"ERROR: \n{said}\n")
    assert Path("models.yaml").read_text(encoding="utf-8") == catalog


TEXT = st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3), max_leaves=6)
WORDS = st.sampled_from(
    [
        "FROM",
        "ADAPTER",
        "PARAMETER",
        "PARAMETER stop",
        "PARAMETER temperature",
        "SYSTEM",
        'SYSTEM """',
        "TEMPLATE",
        "MESSAGE user",
        "LICENSE",
        "#",
        "",
    ]
)
AXOLOTL_KEYS = st.sampled_from(
    [
        "base_model",
        "datasets",
        "adapter",
        "lora_r",
        "lora_target_modules",
        "num_epochs",
        "micro_batch_size",
        "val_set_size",
        "seed",
        "learning_rate",
        "x",
    ]
)
RECIPE_KEYS = st.sampled_from(["name", "base", "gguf", "hf_repo", "gguf_file", "system", "temperature", "adapter", "variables", "x"])


@given(
    TEXT.filter(lambda text: "\0" not in text) | st.text(st.sampled_from("a #:-'\"|>\\\n\r\t\x07\x85\xa0\u2028\u2029\ufeff"), min_size=1, max_size=8)
)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    """But for U+0000, which no catalog takes."""
    one = imported("Modelfile", "FROM ./x.gguf\nADAPTER a\n", name="desk", folder="")
    model = {**one.model, "serve": {"system": f"{text}.", "template": f".{text}", "parameters": {"stop": [f"{text}."]}}}
    written = added_to(CATALOG, "models.yaml", [replace(one, model=model)])
    assert parse(written, "models.yaml")[0]["models"]["desk"] == model


def never_a_traceback(path: str, text: str) -> None:
    try:
        found = imported(path, text, name="", folder="")
        added_to(catalog_text([found]), "models.yaml", [imported(path, text, name="another", folder="")])  # whole, and by the schema
    except BuildError as error:
        assert str(error)  # noqa: PT017


@given(st.lists(st.tuples(WORDS, TEXT), max_size=8))
def test_any_modelfile_is_imported_or_an_error(lines: list[tuple[str, str]]) -> None:
    never_a_traceback("Modelfile", "FROM ./x.gguf\n" + "".join(f"{word} {text}\n" for word, text in lines))


@given(st.dictionaries(AXOLOTL_KEYS, VALUES, max_size=6), st.dictionaries(RECIPE_KEYS, VALUES, max_size=6))
def test_any_configuration_is_imported_or_an_error(axolotl: dict[str, object], recipe: dict[str, object]) -> None:
    never_a_traceback("a.yml", yaml.safe_dump({"base_model": "org/base", **axolotl}))
    never_a_traceback("a.yml", yaml.safe_dump({"name": "x", "gguf": "x.gguf", **recipe}))
