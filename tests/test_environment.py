"""`${NAME}` in a catalog: only what is listed, and never in what is kept."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from catalogs import faults, load, write
from ollamake.catalog.expanded import Expanded
from ollamake.graph import steps_of

ROOT = """\
version: 1
env: [DATA, {TEAM: desk}]
bases:
  small: {gguf: "${DATA}/s.gguf", hf: "${DATA}/hf"}
datasets:
  tone: {files: ["${DATA}/*.jsonl"]}
models:
  legal:
    base: small
    data: [tone]
    train: {system: "You are ${TEAM}; $${TEAM} is a text."}
    serve: {parameters: {stop: ["${TEAM}"]}}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({"secret/a.jsonl": "", "secret/b.jsonl": ""})


def test_what_is_listed_is_replaced_and_has_its_default() -> None:
    (legal,) = load({"models.yaml": ROOT}, {"DATA": "secret"}).models
    assert (legal.base.gguf, legal.data[0].files) == ("secret/s.gguf", ("secret/a.jsonl", "secret/b.jsonl"))
    assert (legal.train.system, legal.serve.parameters) == ("You are desk; ${TEAM} is a text.", {"stop": ["desk"]})
    (legal,) = load({"models.yaml": ROOT}, {"DATA": "secret", "TEAM": "sales"}).models
    assert legal.train.system == "You are sales; ${TEAM} is a text."


@pytest.mark.parametrize("data", ["secret", "secret/", "./secret", "SECRET/../secret", "secret/../secret"])
def test_no_step_tells_a_value_of_the_environment(data: str) -> None:
    Path("SECRET").mkdir(exist_ok=True)
    root = ROOT.replace("train: {", 'train: {trainer: command, command: ["${TEAM}/x"], target_modules: ["${TEAM}"], ')
    root += "  given: {base: small, adapter: '${DATA}/${TEAM}', serve: {template: '${TEAM}'}}\n"
    catalog = load({"models.yaml": root}, {"DATA": data, "TEAM": "hush-hush"})
    told = repr([(step.id, list(step.named_reads), step.keys, step.writes) for step in steps_of(catalog, {"command": "chat", "peft": "chat"})])
    assert "hush" not in told
    assert "secret" not in told.lower()


def test_a_value_is_told_by_its_name_and_another_one_by_its_digest() -> None:
    def told(team: str) -> dict[str, object]:
        steps = steps_of(load({"models.yaml": ROOT}, {"DATA": "secret", "TEAM": team}), {"peft": "chat"})
        return {step.id: (list(step.named_reads), dict(step.keys)) for step in steps}

    before, after = told("a"), told("b")
    assert before["validate:tone"] == (["${DATA}/a.jsonl", "${DATA}/b.jsonl"], {"files": ["${DATA}/a.jsonl", "${DATA}/b.jsonl"]})
    assert before["convert:legal"][1]["train.system"] == "You are ${TEAM}; $${TEAM} is a text. [463accc8e6af07d9]"
    assert {step for step in before if before[step] != after[step]} == {"convert:legal", "register:legal"}


NAMES = [  # a file of the catalog's own folder, or of another's
    ("models.yaml", "${DATA}/shared.jsonl", ["${DATA}/shared.jsonl"]),
    ("models.yaml", "${DATA}/*.jsonl", ["${DATA}/as.jsonl", "${DATA}/shared.jsonl"]),
    ("models.yaml", "${DATA}/**/*.jsonl", ["${DATA}/as.jsonl", "${DATA}/s/s.jsonl", "${DATA}/shared.jsonl"]),
    ("models.yaml", "./${DATA}//shared.jsonl", ["${DATA}/shared.jsonl"]),
    ("models.yaml", "${DATA}/s/../*ed.jsonl", ["${DATA}/s/../shared.jsonl"]),
    ("models.yaml", "*/${TEAM}/s.jsonl", ["deep/${TEAM}/s.jsonl"]),
    ("models.yaml", "**/${TEAM}/?.[a-z]sonl", ["deep/${TEAM}/s.jsonl"]),
    ("models.yaml", "dee?/${TEAM}-*.jsonl", ["deep/${TEAM}-s.jsonl"]),
    ("team/models.yaml", "../${DATA}/*.jsonl", ["${DATA}/as.jsonl", "${DATA}/shared.jsonl"]),
    ("team/models.yaml", "s/../../${DATA}/shared.jsonl", ["${DATA}/shared.jsonl"]),
    ("${DATA}/part.yaml", "*.jsonl", ["${DATA}/as.jsonl", "${DATA}/shared.jsonl"]),
    ("${DATA}/${FILE}", "s/s.jsonl", ["${DATA}/${FILE}/../s/s.jsonl"]),
]


@pytest.mark.parametrize(("catalog", "said", "names"), NAMES, ids=[f"{catalog}: {said}" for catalog, said, _ in NAMES])
@pytest.mark.parametrize("data", ["s", "./s/", "elsewhere/data", "jsonl", "s/../s"])
def test_the_names_of_files_are_the_same_wherever_a_variable_leads(data: str, catalog: str, said: str, names: list[str]) -> None:
    for name in ("as.jsonl", "shared.jsonl", "s/s.jsonl"):
        write({f"{data}/{name}": ""})
    write({"deep/e/s.jsonl": "", "deep/e-s.jsonl": ""})
    root = "version: 1\nenv: [DATA, TEAM, FILE]\n"
    part = f"bases: {{s: {{gguf: s.gguf}}}}\ndatasets: {{t: {{files: ['{said}']}}}}\nmodels: {{m: {{base: s, data: [t]}}}}\n"
    if catalog == "models.yaml":
        root += part
    else:
        write({catalog.replace("${DATA}", data).replace("${FILE}", "part.yaml"): f"version: 1\n{part}"})
        root += f"include: ['{catalog}']\n"
    catalog_of_all = load({"models.yaml": root}, {"DATA": data, "TEAM": "e", "FILE": "part.yaml"})
    assert list(steps_of(catalog_of_all, {"peft": "chat"})[0].named_reads) == names


def test_a_variable_that_leads_here_is_in_the_names_of_files() -> None:
    write({"a.jsonl": ""})
    assert list(steps_of(load({"models.yaml": ROOT}, {"DATA": "."}), {"peft": "chat"})[0].named_reads) == ["${DATA}/a.jsonl"]


def test_files_that_a_value_matches_have_names_of_their_own() -> None:
    catalog = load({"models.yaml": ROOT.replace("${DATA}/*.jsonl", "${DATA}")}, {"DATA": "secret/*.jsonl"})
    names = list(steps_of(catalog, {"peft": "chat"})[0].named_reads)
    assert len(set(names)) == 2
    assert "secret" not in repr(names)


def test_a_catalog_that_is_included_by_a_value_does_not_tell_it() -> None:
    files = {"models.yaml": "version: 1\nenv: [DATA]\ninclude: ['${DATA}/models.yaml']\n"}
    write({"secret/models.yaml": "version: 1\nbases: {s: {gguf: s.gguf}}\ndatasets: {t: {files: [a.jsonl]}}\nmodels: {m: {base: s, data: [t]}}\n"})
    catalog = load(files, {"DATA": "secret"})
    assert str(catalog.models[0].mark) == "${DATA}/models.yaml:4"
    assert list(steps_of(catalog, {"peft": "chat"})[0].named_reads) == ["${DATA}/a.jsonl"]
    write({"secret/models.yaml": "version: 1\nmodels: {m: {base: s, data: [t]}}\n"})
    assert faults(files, {"DATA": "secret"}) == (
        "${DATA}/models.yaml:2: model 'm': unknown base 's'\n  fix: known: none\n${DATA}/models.yaml:2: model 'm': unknown dataset 't'\n  fix: known: none"
    )


def test_an_included_file_may_use_what_is_listed_around_it_and_lists_more_for_itself() -> None:
    write({"a/models.yaml": ROOT.replace("env: [DATA, {TEAM: desk}]\n", "env: [{TEAM: a}]\n").replace("${DATA}/*", "*"), "a/x.jsonl": ""})
    root = "version: 1\nenv: [DATA]\ninclude: [a/models.yaml]\nmodels: {m: {base: small, data: [tone], train: {system: '${TEAM}'}}}\n"
    said = "models.yaml:4: `${TEAM}` is not listed in `env`\n  fix: known: DATA, or add 'TEAM' to `env`, or write `$${TEAM}` for the text itself"
    assert faults({"models.yaml": root}, {"DATA": "secret"}) == said
    _, legal = load({"models.yaml": root.replace("${TEAM}", "x")}, {"DATA": "secret"}).models
    assert (legal.base.gguf, legal.train.system) == ("a/secret/s.gguf", "You are a; ${TEAM} is a text.")


FAULTS = {
    "not listed": (
        ("You are ${TEAM}", "You are ${TAEM}"),
        "models.yaml:11: `${TAEM}` is not listed in `env`\n"
        "  fix: write 'TEAM' (known: DATA, TEAM), or add 'TAEM' to `env`, or write `$${TAEM}` for the text itself",
    ),
    "no list": (
        ("env: [DATA, {TEAM: desk}]\n", "ollama: {host: '${A.B}'}\nenv: [DATA, TEAM]\n"),
        "models.yaml:2: `${A.B}` is not listed in `env`\n  fix: known: DATA, TEAM, or write `$${A.B}` for the text itself\n"
        "models.yaml:12: the environment variable 'TEAM' is not set\n  fix: set it, or list it with a default: `env: [{TEAM: VALUE}]`\n"
        "models.yaml:13: the environment variable 'TEAM' is not set\n  fix: set it, or list it with a default: `env: [{TEAM: VALUE}]`",
    ),
    "blank": (
        ('"You are ${TEAM}; $${TEAM} is a text."', '"${EMPTY}"'),
        "models.yaml:11: '${EMPTY}': it is empty\n  fix: set 'EMPTY' to a value",
    ),
    "not UTF-8": (
        ('"You are ${TEAM}; $${TEAM} is a text."', '"${BYTES}"'),
        "models.yaml:11: the environment variable 'BYTES' is not UTF-8\n  fix: set it to another value",
    ),
    "a name": (
        ("base: small", 'base: "${TEAM}"'),
        "models.yaml:9: '${TEAM}': a name can't come from the environment: models.lock would tell it\n  fix: write the name itself",
    ),
    "a name in a list": (
        ("[tone]", '["${TEAM}"]'),
        "models.yaml:10: '${TEAM}': a name can't come from the environment: models.lock would tell it\n  fix: write the name itself",
    ),
    "a part of a name": (
        ("    train:", '    name: "x-{serve.system}"\n    matrix: {serve.system: ["${TEAM}"]}\n    train:'),
        "models.yaml:12: model 'legal': '${TEAM}' can't be part of a name: models.lock would tell it\n  fix: take {serve.system} out of the name",
    ),
    "bad names": (
        ("{TEAM: desk}", "{TEAM: desk}, A-B, {}, {2: x}, {C: 1}, 3"),
        "models.yaml:2: env[2]: 'A-B' can't be a name\n  fix: use letters, digits and '_', the first no digit\n"
        "models.yaml:2: env[3]: it is empty\n"
        "models.yaml:2: env[4]: '2' can't be a name\n  fix: use letters, digits and '_', the first no digit\n"
        "models.yaml:2: env[5].C: 1 is not a text\n"
        "models.yaml:2: env[6]: 3 is not a text or a mapping",
    ),
}


@pytest.mark.parametrize(("edit", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_environment_is_said_whole(edit: tuple[str, str], said: str) -> None:
    assert edit[0] in ROOT
    text = ROOT.replace(*edit)
    if "EMPTY" in text or "BYTES" in text:
        text = text.replace("{TEAM: desk}", "{TEAM: desk}, EMPTY, BYTES")
    assert faults({"models.yaml": text}, {"DATA": "secret", "EMPTY": " ", "BYTES": "\udcff"}) == said


def test_a_text_with_values_goes_to_other_processes_whole() -> None:
    text = Expanded("a secret", "a ${X}", {"X": "secret"})
    copy = pickle.loads(pickle.dumps(text))
    assert (copy, copy.written, copy.values) == (text, text.written, text.values)
