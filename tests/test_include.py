"""A catalog of several files: what each may say, what names mean in it, where a value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogs import faults, load, write

ROOT = """\
version: 1
include:
- shared/models.yaml
- {files: teams/*/models.yaml, prefix: team-}
defaults:
  train: {rank: 4, epochs: 1, seed: 1}
  serve: {parameters: {top_k: 1, top_p: 1, min_p: 1}}
"""
SHARED = """\
version: 1
bases:
  small:
    gguf: ../bases/small.gguf
    hf: org/small
    defaults:
      train: {rank: 6}
      serve: {parameters: {min_p: 0}}
datasets:
  tone: {files: ["*.jsonl"]}
"""
TEAM_A = """\
version: 1
defaults:
  train: {epochs: 2, rank: 5}
  serve: {parameters: {top_p: 0}}
datasets:
  own: {files: [own.jsonl]}
models:
  desk:
    base: small
    data: [own, tone]
    train: {seed: 3}
"""
TEAM_B = "version: 1\ndatasets: {tone: {files: [own.jsonl]}}\nmodels:\n  bot: {base: small, data: [tone], serve: {system: B}}\n"
FILES = {"models.yaml": ROOT, "shared/models.yaml": SHARED, "teams/a/models.yaml": TEAM_A, "teams/b/models.yaml": TEAM_B}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({"shared/tone.jsonl": "", "teams/a/own.jsonl": "", "teams/b/own.jsonl": ""})


def test_an_importance_matrix_lies_beside_the_file_that_says_it() -> None:
    shared = SHARED.replace("{parameters: {min_p: 0}}", "{imatrix: small.imatrix}")
    desk, bot = load({**FILES, "shared/models.yaml": shared, "teams/b/models.yaml": TEAM_B.replace("system: B", "imatrix: own.imatrix")}).models
    assert (desk.serve.imatrix, bot.serve.imatrix) == ("shared/small.imatrix", "teams/b/own.imatrix")


def test_paths_are_relative_to_the_file_that_says_them_and_names_have_its_prefix() -> None:
    catalog = load(FILES)
    desk, bot = catalog.models
    assert (desk.name, bot.name) == ("team-desk", "team-bot")
    assert (desk.base.name, desk.base.gguf) == ("small", "bases/small.gguf")
    assert [(dataset.name, dataset.files) for dataset in desk.data] == [("team-own", ("teams/a/own.jsonl",)), ("tone", ("shared/tone.jsonl",))]
    assert str(desk.mark) == "teams/a/models.yaml:8"
    assert catalog.warnings == ()


def test_a_name_means_what_the_file_itself_has_before_what_is_around_it() -> None:
    _, bot = load(FILES).models
    assert [dataset.name for dataset in bot.data] == ["team-tone"]


def test_a_sibling_of_the_same_prefix_takes_no_name_away() -> None:
    desk, _ = load(FILES).models
    assert [dataset.name for dataset in desk.data] == ["team-own", "tone"]


def test_a_catalog_names_what_it_includes_by_the_whole_name() -> None:
    catalog = load({**FILES, "models.yaml": ROOT + "models:\n  all: {base: small, data: [team-own, team-tone, tone]}\n"})
    assert [dataset.name for dataset in catalog.models[0].data] == ["team-own", "team-tone", "tone"]


def test_prefixes_of_includes_in_includes_add_up() -> None:
    team = "version: 1\ninclude: [{files: inner/models.yaml, prefix: inner-}]\n"
    write({"teams/a/inner/own.jsonl": ""})
    catalog = load({**FILES, "teams/a/models.yaml": team, "teams/a/inner/models.yaml": TEAM_A})
    assert [model.name for model in catalog.models] == ["team-inner-desk", "team-bot"]
    assert [dataset.name for dataset in catalog.models[0].data] == ["team-inner-own", "tone"]


def test_what_is_nearer_to_a_model_has_the_last_word() -> None:
    catalog = load(FILES)
    desk, bot = catalog.models
    assert (desk.train.rank, desk.train.epochs, desk.train.seed) == (6, 2, 3)
    assert desk.serve.parameters == {"top_k": 1, "top_p": 0, "min_p": 0}
    assert (bot.train.rank, bot.train.epochs, bot.train.seed) == (6, 1, 1)
    assert {key: str(catalog.mark_of("team-desk", key)) for key in ("base", "data", "base.hf")} == {
        "base": "teams/a/models.yaml:9",
        "data": "teams/a/models.yaml:10",
        "base.hf": "shared/models.yaml:5",
    }
    assert {key: str(catalog.mark_of("team-desk", key)) for key in ("train.rank", "train.epochs", "train.seed", "train.alpha")} == {
        "train.rank": "shared/models.yaml:7",
        "train.epochs": "teams/a/models.yaml:3",
        "train.seed": "teams/a/models.yaml:11",
        "train.alpha": "None",
    }
    marks = [str(catalog.mark_of("team-desk", f"serve.parameters.{key}")) for key in ("top_k", "top_p", "min_p")]
    assert marks == ["models.yaml:7", "teams/a/models.yaml:4", "shared/models.yaml:8"]


def test_a_default_command_of_another_trainer_is_no_fault() -> None:
    root = ROOT.replace("{rank: 4,", "{trainer: command, command: [train.sh], rank: 4,")
    desk, bot = load({**FILES, "models.yaml": root, "shared/models.yaml": SHARED.replace("{rank: 6}", "{trainer: peft}")}).models
    assert (desk.train.trainer, desk.train.command, bot.train.command) == ("peft", (), ())


def test_a_pattern_means_no_file_that_it_stands_in() -> None:
    catalog = load(
        {
            **FILES,
            "models.yaml": ROOT.replace("- shared/models.yaml\n- {files: teams/*/models.yaml, prefix: team-}", "- '**/models.yaml'")
            + "models: {x: {base: small, data: [tone]}}\n",
            "teams/b/models.yaml": TEAM_B.replace("tone", "other"),
        }
    )
    assert [model.name for model in catalog.models] == ["x", "desk", "bot"]


def test_an_entry_that_nothing_uses_is_a_warning_but_where_it_is_offered() -> None:
    catalog = load(
        {**FILES, "shared/models.yaml": SHARED + "  more: {files: ['*.jsonl']}\n", "teams/b/models.yaml": TEAM_B.replace("{tone:", "{rest:")}
    )
    assert [str(warning) for warning in catalog.warnings] == ["teams/b/models.yaml:2: warning: no model uses the dataset 'team-rest'"]


def test_the_faults_of_all_files_are_said_at_once_in_the_order_of_the_files() -> None:
    files = {
        "models.yaml": ROOT.replace("epochs: 1", "epochs: 0").replace("teams/*", "teams/?").replace("include:", "include:\n- tems/a/models.yaml"),
        "shared/models.yaml": SHARED + "include: [../models.yaml, ../teams/a/models.yaml]\nollama: {host: box}\n",
        "teams/a/models.yaml": TEAM_A.replace("base: small", "bsae: small"),
        "teams/b/models.yaml": "version: [\n",
    }
    assert faults(files) == (
        "models.yaml:3: include: no file matches 'tems/a/models.yaml'\n  fix: write 'teams/a/models.yaml', or create the file\n"
        "models.yaml:5: include: teams/a/models.yaml is included twice; the first time at shared/models.yaml:11\n  fix: keep one of the two\n"
        "models.yaml:7: defaults.train.epochs: 0 is below 1\n"
        "shared/models.yaml:11: include: models.yaml would include itself\n  fix: remove it\n"
        "shared/models.yaml:12: the server is one for all catalogs\n  fix: move it to models.yaml\n"
        "teams/a/models.yaml:8: models.desk: missing key 'base'\n  fix: add 'base'\n"
        "teams/a/models.yaml:9: models.desk: unknown key 'bsae'\n"
        "  fix: write 'base' (known: adapter, base, data, engine, matrix, name, push, serve, shuffle, tags, tests, train)\n"
        "teams/b/models.yaml:1: not YAML: while parsing a flow node did not find expected node content"
    )


def test_names_that_do_not_go_together_are_faults_where_they_stand() -> None:
    long = "x" * 78
    files = {
        **FILES,
        "models.yaml": ROOT + "models:\n  late: {base: smal, data: [own]}\n",
        "teams/b/models.yaml": TEAM_A + f"  {long}: {{base: small, data: [own, tnoe]}}\n",
    }
    assert faults(files) == (
        "models.yaml:9: model 'late': unknown base 'smal'\n  fix: write 'small' (known: small)\n"
        "models.yaml:9: model 'late': unknown dataset 'own'\n  fix: write 'tone' (known: team-own, tone)\n"
        "teams/b/models.yaml:6: dataset 'team-own' is there twice; the first time at teams/a/models.yaml:6\n"
        "  fix: give one of them another name, or its file a prefix\n"
        "teams/b/models.yaml:8: model 'team-desk' is there twice; the first time at teams/a/models.yaml:8\n"
        "  fix: give one of them another name, or its file a prefix\n"
        f"teams/b/models.yaml:12: model '{long}': unknown dataset 'tnoe'\n  fix: write 'tone' (known: own, team-own, tone)\n"
        f"teams/b/models.yaml:12: model 'team-{long}': this can't be a name\n"
        "  fix: use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit"
    )


ENTRIES = {
    "a number": ("[3]", "models.yaml:2: include[0]: 3 is not a text or a mapping"),
    "nothing": ('[""]', "models.yaml:2: include[0]: it is empty"),
    "no files": ("[{prefix: a}]", "models.yaml:2: include[0]: missing key 'files'\n  fix: add 'files'"),
    "another key": ("[{files: a.yaml, prefx: a}]", "models.yaml:2: include[0]: unknown key 'prefx'\n  fix: write 'prefix' (known: files, prefix)"),
    "a bad prefix": (
        "[{files: a.yaml, prefix: A}]",
        "models.yaml:2: include[0].prefix: 'A' can't be a name\n"
        "  fix: use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit",
    ),
    "only bases": (
        "[shared/models.yaml]",
        "models.yaml:2: no model in this catalog, nor in those that it includes\n  fix: write models, or include a catalog that has some",
    ),
}


@pytest.mark.parametrize(("entries", "said"), ENTRIES.values(), ids=ENTRIES)
def test_a_faulty_include_is_said_whole(entries: str, said: str) -> None:
    assert faults({"shared/models.yaml": SHARED, "a.yaml": TEAM_B, "models.yaml": f"version: 1\ninclude: {entries}\n"}) == said


def test_a_file_that_may_not_be_read_is_a_fault_where_it_is_included() -> None:
    Path("teams/a/models.yaml").mkdir()
    said = "models.yaml:2: include: no file matches 'teams/a/models.yaml'\n  fix: write 'teams/a/models.yaml/*.y*ml': it is a folder"
    assert faults({"models.yaml": "version: 1\ninclude: [teams/a/models.yaml]\n"}) == said


def test_a_dataset_that_is_not_there_is_named_as_its_file_would() -> None:
    said = "teams/a/models.yaml:6: dataset 'own': no file matches 'onw.jsonl'\n  fix: write 'own.jsonl', or create the file"
    assert faults({**FILES, "teams/a/models.yaml": TEAM_A.replace("own.jsonl", "onw.jsonl")}) == said


def test_a_catalog_alone_needs_bases_and_models() -> None:
    assert faults({"models.yaml": "version: 1\n"}) == (
        "models.yaml:1: missing key 'bases'\n  fix: add 'bases'\nmodels.yaml:1: missing key 'models'\n  fix: add 'models'"
    )
