"""models.yaml: what it may say, and each fault, whole, at its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Repo
from ollamake.catalog import Catalog, Serve, Train
from ollamake.catalog.load import load_catalog
from ollamake.catalog.marked_yaml import parse
from ollamake.errors import FaultyFileError
from ollamake.graph import steps_of

TRAINERS = ("command", "peft")
GOOD = """\
version: 1
defaults:
  train: {rank: 8, system: Be brief.}
  serve: {parameters: {temperature: 0}}
bases:
  small: {gguf: bases/small.gguf}
datasets:
  tone: {files: [tone.jsonl]}
models:
  legal:
    base: small
    data: [tone]
    train: {learning_rate: 2e-4}
  given:
    base: small
    adapter: adapters/given
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tone.jsonl").touch()


def load(text: str) -> Catalog:
    path = Path("models.yaml")
    path.write_text(text, encoding="utf-8")
    return load_catalog(path, trainers=TRAINERS)


def faults(text: str) -> str:
    with pytest.raises(FaultyFileError) as caught:
        load(text)
    return str(caught.value)


@pytest.mark.parametrize("path", ["lora.gguf", "adapters/Lora.GGUF", "/blobs/sha256-" + "0a" * 32])
def test_a_gguf_lora_is_one_file_that_is_read(path: str) -> None:
    package = next(step for step in steps_of(load(GOOD.replace("adapters/given", path)), {"peft": "chat"}) if step.id == "package:given")
    assert package.reads == (path, "bases/small.gguf")


def test_a_catalog_becomes_values_with_every_default_in_its_place() -> None:
    catalog = load(GOOD)
    legal, given_model = catalog.models
    assert legal.train == Train(rank=8, system="Be brief.", learning_rate=2e-4)
    assert legal.train.recipe["alpha"] == 16
    assert legal.serve == Serve(system="Be brief.", parameters={"temperature": 0})
    assert [dataset.files for dataset in legal.data] == [("tone.jsonl",)]
    assert (legal.base.gguf, str(legal.mark)) == ("bases/small.gguf", "models.yaml:10")
    assert (given_model.adapter, given_model.data) == ("adapters/given", ())
    assert catalog.warnings == ()


FAULTS = {
    "unknown key": (
        ("    base: small\n    data", "    bsae: small\n    base: small\n    data"),
        "models.yaml:11: models.legal: unknown key 'bsae'\n  fix: write 'base' (known: adapter, base, data, engine, matrix, name, push, serve, shuffle, tags, tests, train)",
    ),
    "missing key": (("    base: small\n    data", "    data"), "models.yaml:10: models.legal: missing key 'base'\n  fix: add 'base'"),
    "unknown base": (
        ("    base: small\n    data", "    base: smal\n    data"),
        "models.yaml:11: model 'legal': unknown base 'smal'\n  fix: write 'small' (known: small)",
    ),
    "unknown dataset": (("[tone]", "[tune]"), "models.yaml:12: model 'legal': unknown dataset 'tune'\n  fix: write 'tone' (known: tone)"),
    "unknown place": (
        ("2e-4", "2e-4, trainer: command, command: [train.sh, '{txt}', '--option={a}']"),
        "models.yaml:13: model 'legal': command: {txt} stands for nothing\n  fix: write {text}",
    ),
    "a number beyond numbers": (("2e-4", "2e+400"), "models.yaml:13: 2e+400 is beyond what a number can be"),
    "unknown trainer": (
        ("2e-4", "2e-4, trainer: pefft"),
        "models.yaml:13: model 'legal': unknown trainer 'pefft'\n"
        "  fix: write 'peft' (known: command, peft), or install a package that provides 'pefft'",
    ),
    "command without argv": (
        ("2e-4", "2e-4, trainer: command"),
        "models.yaml:13: model 'legal': trainer 'command' without a command\n  fix: write `trainer: command` and `command: [PROGRAM, ARGUMENT, ...]`",
    ),
    "argv without command": (
        ("2e-4", "2e-4, command: [x]"),
        "models.yaml:13: model 'legal': a command for trainer 'peft'\n  fix: write `trainer: command` and `command: [PROGRAM, ARGUMENT, ...]`",
    ),
    "a text for a list": (("[tone]", "tone"), 'models.yaml:12: models.legal.data: "tone" is not a list\n  fix: write [tone]'),
    "wrong type": (("2e-4", "fast"), 'models.yaml:13: models.legal.train.learning_rate: "fast" is not a number'),
    "not above 0": (("2e-4", "0"), "models.yaml:13: models.legal.train.learning_rate: 0 is not above 0"),
    "too small": (("rank: 8", "rank: 0"), "models.yaml:3: defaults.train.rank: 0 is below 1"),
    "unknown parameter": (
        ("temperature: 0", "temprature: 0"),
        "models.yaml:4: defaults.serve.parameters: unknown key 'temprature'\n  fix: write 'temperature' (known: frequency_penalty, min_p, "
        "num_batch, num_ctx, num_gpu, num_keep, num_predict, num_thread, presence_penalty, repeat_last_n, repeat_penalty, seed, stop, "
        "temperature, top_k, top_p, typical_p)",
    ),
    "wrong weights": (
        ("{parameters: {temperature: 0}}", "{weights: merge}"),
        "models.yaml:4: defaults.serve.weights: \"merge\" is not known\n  fix: write 'merged' (known: adapter, auto, merged, split)",
    ),
    "wrong version": (("version: 1", "version: 2"), "models.yaml:1: version: 2 is not known\n  fix: known: 1"),
    "name": (
        ("  legal:", "  Legal:"),
        "models.yaml:10: models: 'Legal' can't be a name\n"
        "  fix: use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit",
    ),
    "dataset twice": (
        ("[tone]", "[tone, tone]"),
        "models.yaml:12: model 'legal': dataset 'tone' is named twice\n  fix: keep one of the two; `weight: 2` reads each record twice",
    ),
    "no dataset": (("[tone]", "[]"), "models.yaml:12: models.legal.data: it is empty"),
    "no file": (
        ("[tone.jsonl]", "[tune.jsonl]"),
        "models.yaml:8: dataset 'tone': no file matches 'tune.jsonl'\n  fix: write 'tone.jsonl', or create the file",
    ),
    "file of an adapter": (
        ("adapter: adapters/given", "adapter: adapters/given/adapter_model.safetensors"),
        "models.yaml:16: model 'given': 'adapters/given/adapter_model.safetensors' is a file of an adapter, and the folder is wanted that its "
        "adapter_config.json is in\n  fix: name the folder: adapters/given",
    ),
    "pickle of an adapter": (
        ("adapter: adapters/given", "adapter: adapter_model.BIN"),
        "models.yaml:16: model 'given': 'adapter_model.BIN' is a pickle, which may run any program when it is loaded: it is never loaded\n"
        "  fix: name the folder that it is in, .: a build then says how to convert it",
    ),
    "start from a GGUF LoRA": (
        (
            "train: {learning_rate: 2e-4}\n  given:\n    base: small\n    adapter: adapters/given",
            "train: {start_from: given}\n  given: {base: small, adapter: x.gguf}",
        ),
        "models.yaml:13: model 'legal': train.start_from: 'given' is served from a GGUF LoRA, which no trainer goes on with\n"
        "  fix: start from a model that is trained here, or whose adapter is a PEFT folder, or from `base`",
    ),
    "adapter and data": (
        ("adapter: adapters/given", "adapter: adapters/given\n    data: [tone]"),
        "models.yaml:17: model 'given': data beside adapter: an adapter that is there is not trained\n  fix: remove adapter or data",
    ),
    "neither": (
        ("    data: [tone]\n", ""),
        "models.yaml:10: model 'legal': neither data nor adapter\n  fix: add `data: [DATASET]`, or `adapter: FOLDER`",
    ),
    "key twice": (
        ("    data: [tone]\n", "    data: [tone]\n    base: small\n"),
        "models.yaml:13: key 'base' stands twice; the first time in line 11\n  fix: keep one of the two",
    ),
    "not YAML": (
        ("  small: {", "  small: ["),
        "models.yaml:6: not YAML: while parsing a flow sequence did not find expected ',' or ']'",
    ),
    "tag": (
        ("version: 1", "version: !!python/object:os.system 1"),
        "models.yaml:1: tag 'tag:yaml.org,2002:python/object:os.system' is not allowed\n  fix: write a plain text, number, list or mapping",
    ),
}


@pytest.mark.parametrize(("edit", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_said_whole(edit: tuple[str, str], said: str) -> None:
    assert edit[0] in GOOD
    assert faults(GOOD.replace(*edit)) == said


def test_all_faults_are_said_at_once_in_order() -> None:
    text = GOOD.replace("rank: 8", "rnak: 8").replace("2e-4", "no").replace("adapter:", "adaptor:")
    assert [line.partition(" ")[0] for line in faults(text).splitlines() if "fix" not in line] == [
        "models.yaml:3:",
        "models.yaml:13:",
        "models.yaml:16:",
    ]


def test_what_nothing_uses_is_a_warning() -> None:
    catalog = load(GOOD.replace("models:", "  spare: {files: [tone.jsonl]}\nmodels:"))
    assert [str(warning) for warning in catalog.warnings] == ["models.yaml:9: warning: no model uses the dataset 'spare'"]


def test_a_type_beside_weights_that_are_an_adapter_is_a_warning_where_the_model_itself_says_both() -> None:
    both = "    serve: {weights: adapter, weights_type: q4_k}\n"
    (line,) = map(str, load(GOOD + both).warnings)
    assert line == (
        "models.yaml:17: warning: model 'given': serve.weights_type: an adapter is served in float32: the type is that of merged and split weights\n"
        "  fix: remove it, or write `weights: merged`"
    )
    assert load(GOOD + both.replace("adapter", "merged")).warnings == ()
    assert load(GOOD.replace("serve: {", "serve: {weights_type: q4_k, ", 1) + "    serve: {weights: adapter}\n").warnings == ()


def test_an_empty_catalog_and_none_at_all() -> None:
    said = "models.yaml:1: the catalog is empty\n  fix: write version, bases, datasets and models; docs/catalog.md of ollamake shows how"
    assert faults("# nothing\n") == said
    with pytest.raises(Exception, match=r"nowhere.yaml: can't be read: No such file"):
        load_catalog(Path("nowhere.yaml"), trainers=TRAINERS)


def test_a_default_trainer_may_be_replaced() -> None:
    text = GOOD.replace("{rank: 8, system: Be brief.}", "{trainer: command, command: [train.sh]}").replace("2e-4", "2e-4, trainer: peft")
    legal, _ = load(text).models
    assert (legal.train.trainer, legal.train.command) == ("peft", ())


def test_parameters_are_merged_key_by_key() -> None:
    legal, _ = load(GOOD.replace("2e-4}", '2e-4}\n    serve: {parameters: {top_k: 3, stop: ["\\n"]}}')).models
    assert legal.serve.parameters == {"temperature": 0, "top_k": 3, "stop": ["\n"]}


def test_a_file_name_may_look_like_a_pattern_and_folders_are_no_files() -> None:
    Path("tone[1].jsonl").touch()
    Path("more").mkdir()
    Path("more/deep.jsonl").touch()
    legal, _ = load(GOOD.replace("[tone.jsonl]", '["tone[1].jsonl", "more/**"]')).models
    assert legal.data[0].files == ("tone[1].jsonl", "more/deep.jsonl")


@pytest.mark.parametrize(
    ("name", "what"),
    [("datasets", "where the markers of datasets are"), ("report", "the site that `doit report` writes, for others to see")],
)
def test_a_name_that_is_a_folder_s_of_others(name: str, what: str) -> None:
    said = f"models.yaml:10: model '{name}': build/{name} is {what}\n  fix: give the model another name"
    assert faults(GOOD.replace("  legal:", f"  {name}:")) == said


def test_a_name_on_a_hub_may_be_longer_than_that_of_a_file() -> None:
    assert load(GOOD.replace("small.gguf", f"small.gguf, hf: {'x' * 5000}")).models[0].base.hf == "x" * 5000


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("!!int x", "tag:yaml.org,2002:int"),
        ("!!float abc", "tag:yaml.org,2002:float"),
        ("!!str x", "tag:yaml.org,2002:str"),
        ("!<tag:yaml.org,2002:int> 5", "tag:yaml.org,2002:int"),
        ("!custom {}", "!custom"),
        ("!!set [x]", "tag:yaml.org,2002:set"),
        ("!foo:int 5", "!foo:int"),
        ("! 5", "!"),
        ("{!!str b: 1}", "tag:yaml.org,2002:str"),
    ],
)
def test_a_tag_is_a_fault_whatever_it_says_and_stands_before(text: str, tag: str) -> None:
    with pytest.raises(FaultyFileError) as caught:
        parse(f"a: Oh!\nb: {text}\n", "m.yaml")
    assert str(caught.value) == f"m.yaml:2: tag {tag!r} is not allowed\n  fix: write a plain text, number, list or mapping"


def test_an_exclamation_mark_is_no_tag_where_it_is_part_of_a_text() -> None:
    text = "a: &a Be kind!\nb: '!x'\nc: [*a, x !y]\n"
    assert parse(text, "m.yaml")[0] == {"a": "Be kind!", "b": "!x", "c": ["Be kind!", "x !y"]}


@pytest.mark.parametrize(("old", "line"), [("bases/small.gguf", 6), ("tone.jsonl", 8), ("adapters/given", 16), ("Be brief.", 3)])
def test_a_text_that_no_file_and_no_program_can_be_given_is_a_fault_at_its_line(old: str, line: int) -> None:
    assert faults(GOOD.replace(old, '"a\\0b"')) == f"models.yaml:{line}: a text with the character \\0 in it\n  fix: take it out"


LONG = {
    "gguf": (("bases/small.gguf", "bases/" + "x" * 300), "models.yaml:6: base 'small': gguf: "),
    "files": (("tone.jsonl", "bases/" + "x" * 300), "models.yaml:8: dataset 'tone': files: "),
    "schema": (("[tone.jsonl]", f"[tone.jsonl], schema: bases/{'x' * 300}"), "models.yaml:8: dataset 'tone': schema: "),
    "adapter": (("adapters/given", "bases/" + "x" * 300), "models.yaml:16: model 'given': adapter: "),
}


@pytest.mark.parametrize(("edit", "place"), LONG.values(), ids=LONG)
@pytest.mark.parametrize("only_looks", [True, False])
def test_a_name_that_is_too_long_for_a_file_is_a_fault_at_its_line(edit: tuple[str, str], place: str, only_looks: bool) -> None:
    Path("models.yaml").write_text(GOOD.replace(*edit), encoding="utf-8")
    with pytest.raises(FaultyFileError) as caught:
        load_catalog(Path("models.yaml"), trainers=TRAINERS, only_looks=only_looks)
    shown = f"'bases/{'x' * 54}...'"
    assert str(caught.value) == f"{place}{shown} is too long for the name of a file\n  fix: write a path whose parts have at most 255 bytes"


def test_of_many_faults_of_a_kind_the_first_are_told_what_was_meant() -> None:
    names = [f"m{number:02}" for number in range(30)]
    models = "".join(f"  {name}: {{base: small, data: [tune]}}\n" for name in names)
    said = faults(GOOD[: GOOD.index("models:")] + "models:\n" + models).splitlines()
    assert [line for line in said if "fix" not in line] == [
        f"models.yaml:{10 + number}: model '{name}': unknown dataset 'tune'" for number, name in enumerate(names)
    ]
    assert [line for line in said if "fix" in line] == [
        *["  fix: write 'tone' (known: tone)"] * 20,
        *["  fix: write a dataset that there is: the first 20 faults of this kind say which"] * 10,
    ]
    datasets = "".join(f"  t{number:02}: {{files: [tune.jsonl]}}\n" for number in range(30))
    said = faults(GOOD.replace("datasets:\n", f"datasets:\n{datasets}")).splitlines()
    assert [line for line in said if "fix" in line] == [
        *["  fix: write 'tone.jsonl', or create the file"] * 20,
        *["  fix: create the file, or mend the pattern"] * 10,
    ]


def test_a_trainer_is_asked_for_only_where_something_is_trained() -> None:
    text = GOOD.replace("rank: 8,", "rank: 8, trainer: nope,").replace("2e-4}", "2e-4, trainer: peft}")
    legal, given_model = load(text).models
    assert (legal.train.trainer, given_model.adapter) == ("peft", "adapters/given")


@pytest.mark.parametrize(
    ("said", "key"), [("org/small", "org/small"), ("weights", "weights"), ("./weights/", "weights"), ("../weights", "../weights")]
)
def test_what_a_base_is_called_in_the_lock_is_what_the_catalog_says_whether_the_folder_is_there_or_not(said: str, key: str) -> None:
    def keys() -> list[object]:
        return [
            step.keys["base.hf"] for step in steps_of(load_catalog(Path("models.yaml"), trainers=TRAINERS), {"peft": "chat"}) if step.stage == "train"
        ]

    Path("team").mkdir()
    Path("team/models.yaml").write_text(
        GOOD.replace("small.gguf", f"small.gguf, hf: {said}").replace("tone.jsonl", "../tone.jsonl"), encoding="utf-8"
    )
    Path("models.yaml").write_text("version: 1\ninclude: [team/models.yaml]\n", encoding="utf-8")
    before = keys()
    Path("team", said).mkdir(parents=True)
    assert keys() == before == [key]


def test_a_trainer_is_given_the_folder_of_a_base_where_it_is_there() -> None:
    Path("team").mkdir()
    Path("team/models.yaml").write_text(
        GOOD.replace("small.gguf", "small.gguf, hf: org/small").replace("tone.jsonl", "../tone.jsonl"), encoding="utf-8"
    )
    base = load("version: 1\ninclude: [team/models.yaml]\n").models[0].base
    assert base.source == "org/small"
    Path("team/org/small").mkdir(parents=True)
    assert base.source == "team/org/small"


def test_a_number_without_end_is_a_fault() -> None:
    assert faults(GOOD.replace("rank: 8", f"rank: {'9' * 5000}")) == "models.yaml:3: a number of 5000 digits"


def test_anchors_and_merges_are_allowed_and_bombs_are_not() -> None:
    value, lines = parse("a: &x {rank: 1, seed: 2}\nb:\n  <<: *x\n  rank: 3\n", "m.yaml")
    assert value["b"] == {"rank": 3, "seed": 2}
    assert lines["b", "rank"] == 4
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    with pytest.raises(FaultyFileError, match=r"more than 500000 values"):
        parse(bomb, "m.yaml")
    with pytest.raises(FaultyFileError, match="aliases that contain themselves"):
        parse("a: &a [*a]\n", "m.yaml")
    with pytest.raises(FaultyFileError, match=r"^m.yaml:2: nested more than 50 deep$"):
        parse(f"a: 1\nb: {'[' * 60}{']' * 60}\n", "m.yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("2e-4", 2e-4), ("1", 1), ("no", "no"), ("on", "on"), ("true", True), ("~", None), ("0x1f", "0x1f"), (".5", 0.5)]
)
def test_scalars_are_what_people_expect(text: str, value: object) -> None:
    assert parse(f"a: {text}", "m.yaml")[0] == {"a": value}


@given(st.text(max_size=60))
def test_any_text_is_a_catalog_or_has_faults(text: str) -> None:
    try:
        _, lines = parse(text, "m.yaml")
    except FaultyFileError as error:
        lines = {fault.text: fault.mark.line for fault in error.faults}
    assert lines
    assert all(1 <= line <= max(1, len(text.splitlines())) for line in lines.values())


def test_an_environment_is_of_the_file_that_says_it(repo: Repo) -> None:
    (line,) = [line for line in Path("models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: ")]
    repo.replace(line, "  train: {trainer: trl, env: envs/trl}")
    repo.replace("version: 1\n", "version: 1\ninclude: [team/models.yaml]\n")
    Path("team").mkdir()
    models = "".join(
        f"  {name}:\n    base: tiny\n    data: [shared]\n{train}" for name, train in (("lite", ""), ("own", "    train: {env: ../envs/own}\n"))
    )
    Path("team/models.yaml").write_text(f"version: 1\nmodels:\n{models}", encoding="utf-8")
    found = {model.name: model.train.env for model in load_catalog(Path("models.yaml"), trainers=["trl"]).models}
    assert found == {"legal": "envs/trl", "sales": "envs/trl", "lite": "envs/trl", "own": "envs/own"}
