"""`matrix:` makes many models of one entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalogs import faults, load
from ollamake.catalog.faults import schema

ROOT = """\
version: 1
bases: {small: {gguf: s.gguf}, big: {gguf: b.gguf}}
datasets: {tone: {files: [tone.jsonl]}, law: {files: [tone.jsonl]}}
models:
  support:
    name: "support-{base}-r{train.rank}"
    data: [tone, law]
    train: {epochs: 2}
    matrix:
      base: [small, big]
      train.rank: [8, 16]
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tone.jsonl").touch()


def test_an_entry_becomes_a_model_for_each_combination() -> None:
    catalog = load({"models.yaml": ROOT})
    assert [(model.name, model.base.name, model.train.rank, model.train.epochs) for model in catalog.models] == [
        ("support-small-r8", "small", 8, 2),
        ("support-small-r16", "small", 16, 2),
        ("support-big-r8", "big", 8, 2),
        ("support-big-r16", "big", 16, 2),
    ]
    marks = [str(catalog.mark_of("support-big-r16", key)) for key in ("base", "train.rank", "train.epochs", "data", "train.seed")]
    assert marks == ["models.yaml:10", "models.yaml:11", "models.yaml:8", "models.yaml:7", "None"]


def test_data_and_parameters_may_be_in_a_matrix_and_numbers_and_lists_in_a_name() -> None:
    text = ROOT.replace("    data: [tone, law]\n", "").replace("{base}-r{train.rank}", "{data}-{train.learning_rate}-{serve.parameters.top_p}")
    matrix = "      data:\n      - [tone]\n      - [tone, law]\n      train.learning_rate: [2e-4]\n      serve.parameters.top_p: [0.5]\n"
    catalog = load({"models.yaml": f"{text.partition('      base:')[0]}{matrix}    base: small\n    serve: {{parameters: {{top_k: 3}}}}\n"})
    assert [model.name for model in catalog.models] == ["support-tone-0.0002-0.5", "support-tone-law-0.0002-0.5"]
    assert [[dataset.name for dataset in model.data] for model in catalog.models] == [["tone"], ["tone", "law"]]
    assert [model.serve.parameters for model in catalog.models] == [{"top_k": 3, "top_p": 0.5}] * 2
    assert str(catalog.mark_of("support-tone-law-0.0002-0.5", "data")) == "models.yaml:11"


def test_what_is_excluded_is_left_out() -> None:
    catalog = load({"models.yaml": ROOT + "      exclude: [{base: big, train.rank: 16}]\n"})
    assert [model.name for model in catalog.models] == ["support-small-r8", "support-small-r16", "support-big-r8"]


def test_each_key_of_train_and_serve_may_be_in_a_matrix() -> None:
    parts = schema()["$defs"]
    train, serve, parameters = (parts["train"], parts["serve"], parts["serve"]["properties"]["parameters"])
    keys = {f"train.{key}" for key in train["properties"]} | {f"serve.{key}" for key in serve["properties"]}
    keys |= {f"serve.parameters.{key}" for key in parameters["properties"]} | {"train.resources.gpu"}
    assert set(parts["matrix"]["properties"]) - {"base", "data", "exclude"} == keys - {"serve.parameters", "train.resources"}


AT = "models.yaml"
FAULTS = {
    "a value that is none": (
        ("[8, 16]", "[8, x]"),
        f'{AT}:11: models.support.matrix.train.rank[1]: "x" is not a whole number',
    ),
    "a value that is no list": (
        ("[8, 16]", "8"),
        f"{AT}:11: models.support.matrix.train.rank: 8 is not a list",
    ),
    "nothing": (("      base: [small, big]\n      train.rank: [8, 16]", "      {}"), f"{AT}:9: models.support.matrix: it is empty"),
    "an unknown base, once": (
        ("[small, big]", "[small, bug]"),
        f"{AT}:10: model 'support': unknown base 'bug'\n  fix: write 'big' (known: big, small)",
    ),
    "an unknown dataset, once": (
        ("[tone, law]", "[tone, low]"),
        f"{AT}:7: model 'support': unknown dataset 'low'\n  fix: write 'law' (known: law, tone)",
    ),
    "no base": (
        ("      base: [small, big]\n", ""),
        f"{AT}:5: model 'support': missing key 'base'\n  fix: add 'base', to the model or to its matrix\n"
        f"{AT}:6: model 'support': `{{base}}` is not in the matrix\n  fix: known: train.rank",
    ),
    "no name": (
        ('    name: "support-{base}-r{train.rank}"\n', ""),
        f"{AT}:5: model 'support': matrix without name\n  fix: add a template of the names: `name: support-{{base}}`",
    ),
    "a name alone": (
        ("    matrix:\n      base: [small, big]\n      train.rank: [8, 16]\n", "    base: small\n"),
        f"{AT}:6: model 'support': name without matrix\n  fix: remove it: the model's name is 'support'",
    ),
    "one name for two": (
        ("-r{train.rank}", ""),
        f"{AT}:6: model 'support': two models of its matrix are named 'support-small'\n  fix: put {{train.rank}} into the name",
    ),
    "a value twice": (
        ("[8, 16]", "[8, 16, 8]"),
        f"{AT}:11: model 'support': '8' stands twice\n  fix: remove one",
    ),
    "a placeholder of nothing": (
        ("{train.rank}", "{train.rnak}"),
        f"{AT}:6: model 'support': `{{train.rnak}}` is not in the matrix\n  fix: write 'train.rank' (known: base, train.rank)",
    ),
    "what can't be in a name": (
        ("train.rank}", "serve.system}"),
        f"{AT}:12: model 'support': 'Be brief.' can't be part of a name\n  fix: take {{serve.system}} out of the name",
    ),
    "what can't be a name": (
        ('"support-', '"Support-'),
        f"{AT}:6: model 'support': 'Support-small-r8' can't be a name\n"
        "  fix: use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit",
    ),
    "a key twice": (
        ("epochs: 2", "epochs: 2, rank: 3"),
        f"{AT}:11: model 'support': train.rank stands in the matrix and beside it\n  fix: keep one of the two",
    ),
    "excluded by another key": (
        ("[8, 16]\n", "[8, 16]\n      exclude: [{bsae: big}]\n"),
        f"{AT}:12: model 'support': 'bsae' is not in the matrix\n  fix: write 'base' (known: base, train.rank)",
    ),
    "nothing excluded": (
        ("[8, 16]\n", "[8, 16]\n      exclude: [{base: bug}]\n"),
        f"{AT}:12: model 'support': no model of its matrix is like this\n  fix: mend it, or remove it",
    ),
    "all excluded": (
        ("[8, 16]\n", "[8, 16]\n      exclude: [{base: big}, {base: small}]\n"),
        f"{AT}:12: model 'support': every model of its matrix is excluded\n  fix: leave one",
    ),
    "only excluded": (
        ("      base: [small, big]\n      train.rank: [8, 16]\n", "      exclude: [{base: big}]\n    base: small\n"),
        f"{AT}:6: model 'support': `{{base}}` is not in the matrix\n  fix: known: none\n"
        f"{AT}:6: model 'support': `{{train.rank}}` is not in the matrix\n  fix: known: none\n"
        f"{AT}:9: model 'support': a matrix of nothing\n  fix: write a key, and the list of its values\n"
        f"{AT}:10: model 'support': 'base' is not in the matrix\n  fix: known: none",
    ),
    "too many": (
        ("[8, 16]\n", f"[8, 16]\n      train.seed: {list(range(2501))}\n"),
        f"{AT}:9: model 'support': a matrix of more than 10000 models\n  fix: make several entries of it",
    ),
    "the name of another model": (
        ("models:\n", "models:\n  support-big-r8: {base: small, data: [tone]}\n"),
        f"{AT}:6: model 'support-big-r8' is there twice; the first time at {AT}:5\n  fix: give one of them another name, or its file a prefix",
    ),
}


@pytest.mark.parametrize(("edit", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_matrix_is_said_whole(edit: tuple[str, str], said: str) -> None:
    assert edit[0] in ROOT
    text = ROOT.replace(*edit)
    if re.search(r"serve\.system\}", text):
        text = text.replace("[8, 16]\n", "[8, 16]\n      serve.system: [Be brief.]\n")
    assert faults({"models.yaml": text}) == said
