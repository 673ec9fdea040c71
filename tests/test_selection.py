"""What a selector means: by itself, and where it is typed behind a command."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Repo, without_times
from ollamake.catalog import Base, Dataset, Model, Portion, Serve, Train
from ollamake.errors import BuildError, Mark
from ollamake.selection import select

MARK = Mark("models.yaml", 1)
LOOKED_UP = {"state:stale": {"legal", "sales-de"}, "state:new": {"legal"}, "since:origin/main": {"sales-de"}}


def model(name: str, base: str, data: Sequence[str], tags: Sequence[str]) -> Model:
    return Model(
        name=name,
        base=Base(name=base, gguf="base.gguf", hf=None, mark=MARK),
        portions=tuple(Portion(dataset=Dataset(name=dataset, files=(), mark=MARK)) for dataset in data),
        shuffle=False,
        train=Train(),
        adapter=None,
        serve=Serve(),
        tags=tuple(tags),
        mark=MARK,
    )


MODELS = {
    found.name: found
    for found in (
        model("legal", "smollm2", ["shared"], ["desk", "eu"]),
        model("sales-de", "smollm2", ["shared", "tone"], ["desk", "de"]),
        model("sales-fr", "llama3.2", ["shared", "tone-fr"], []),
        model("tone", "llama3.2", ["jokes"], ["fun"]),
    )
}


def look_up(method: str, value: str, names: Sequence[str]) -> Collection[str]:
    return LOOKED_UP[f"{method}:{value}"] & set(names)


def chosen(*selectors: str, exclude: Sequence[str] = ()) -> list[str]:
    return select(selectors, MODELS, look_up, exclude=exclude)


@pytest.mark.parametrize(
    ("selectors", "names"),
    [
        ("legal", "legal"),
        ("tone legal", "legal tone"),  # in one argument: as the catalog has them
        ("sales-*", "sales-de sales-fr"),
        ("sales-??", "sales-de sales-fr"),
        ("sales-[a-e]*", "sales-de"),
        ("*", "legal sales-de sales-fr tone"),
        ("tag:desk", "legal sales-de"),
        ("tag:[de]*", "legal sales-de"),
        ("base:llama3.2", "sales-fr tone"),
        ("data:tone", "sales-de"),
        ("data:tone*", "sales-de sales-fr"),
        ("tag:desk,data:tone", "sales-de"),
        ("tag:de,base:llama3.2", ""),  # each is there, and no model has both
        ("tag:eu data:tone", "legal sales-de"),
        ("state:stale", "legal sales-de"),
        ("state:stale,sales-*", "sales-de"),
        ("since:origin/main", "sales-de"),
        ("+legal", "legal"),
        ("2+legal+3", "legal"),
        ("tone+", "sales-de tone"),  # the model of that name, and what reads the dataset
        ("shared+", "legal sales-de sales-fr"),
        ("smollm2+", "legal sales-de"),
        ("tone*+", "sales-de sales-fr tone"),
        ("+tag:desk+", "legal sales-de"),
    ],
)
def test_what_a_selector_means(selectors: str, names: str) -> None:
    assert chosen(selectors) == names.split()


@pytest.mark.parametrize(
    ("selector", "revisions"),
    [
        ("since:feat+x", ["feat+x"]),
        ("since:v1+", ["v1+"]),  # of the revision, and no operator
        ("since:feat+1,legal", ["feat+1"]),
        ("+since:v1", ["v1"]),
        ("2+since:v1+2", ["v1+2"]),
        ("since:main@{2 days ago}", ["main@{2 days ago}"]),
        ("legal,since:main@{1 day, 2 hours ago},tag:desk", ["main@{1 day, 2 hours ago}"]),
        ("since:HEAD^{/fix it} since:@{u}", ["HEAD^{/fix it}", "@{u}"]),
        ("since::/fix", [":/fix"]),
    ],
)
def test_since_takes_any_revision(selector: str, revisions: list[str]) -> None:
    asked = []

    def look_up(method: str, value: str, names: Sequence[str]) -> Collection[str]:
        asked.append((method, value))
        return names

    select([selector], MODELS, look_up)
    assert asked == [("since", revision) for revision in revisions]


def test_several_selectors_mean_what_any_of_them_means_in_the_order_in_which_they_are_typed() -> None:
    assert chosen("tone", "legal", "tag:desk") == ["tone", "legal", "sales-de"]


def test_no_selector_means_all() -> None:
    assert chosen() == list(MODELS)


def test_what_is_excluded_is_left_out() -> None:
    assert chosen(exclude=["tag:desk"]) == ["sales-fr", "tone"]
    assert chosen("shared+", exclude=["legal", "base:llama3.2"]) == ["sales-de"]
    assert chosen("tone", exclude=["legal"]) == ["tone"]


def test_only_what_is_left_over_is_looked_up() -> None:
    asked = []

    def look_up(method: str, value: str, names: Sequence[str]) -> Collection[str]:
        asked.append((method, value, list(names)))
        return names

    select(["state:stale,tag:desk,since:HEAD~1"], MODELS, look_up)
    select(["tag:de,base:llama3.2,state:stale"], MODELS, look_up)
    select(["legal"], MODELS, look_up, exclude=["state:fresh"])
    assert asked == [
        ("state", "stale", ["legal", "sales-de"]),
        ("since", "HEAD~1", ["legal", "sales-de"]),
        ("state", "fresh", ["legal"]),
    ]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("leagl", "no model 'leagl' in the catalog\n  fix: write 'legal' (known: legal, sales-de, sales-fr, tone)"),
        ("sale-*", "no model 'sale-*' in the catalog\n  fix: write 'sales-fr' (known: legal, sales-de, sales-fr, tone)"),
        ("shared", "no model 'shared' in the catalog: it is what models are built from\n  fix: write 'shared+' for the models that are built from it"),
        ("x", "no model 'x' in the catalog\n  fix: known: legal, sales-de, sales-fr, tone"),
        ("shaerd+", "no model, dataset or base 'shaerd' in the catalog\n  fix: write 'shared' (known: jokes, legal, llama3.2, sales-de, sales-fr, shared, smollm2, tone, tone-fr)"),
        ("tag:dsk", "no model has tag:dsk\n  fix: write 'desk' (known: de, desk, eu, fun)"),
        ("base:smolm2", "no model has base:smolm2\n  fix: write 'smollm2' (known: llama3.2, smollm2)"),
        ("data:toen", "no model has data:toen\n  fix: write 'tone' (known: jokes, shared, tone, tone-fr)"),
        ("tga:desk", "tga:desk: unknown method 'tga'\n  fix: write 'tag' (known: base, data, since, state, tag)"),
        ("state:stael", "state:stael: unknown state 'stael'\n  fix: write 'stale' (known: fresh, modified, new, stale)"),
        *(
            (text, f"not a selector: {part!r}{at}\n  fix: write a name, a pattern or METHOD:VALUE; a comma between two for those that are both, a space for either")
            for text, part, at in (
                ("", "", ""),
                ("legal,,tone", "", " in 'legal,,tone'"),
                ("tag:", "tag:", ""),
                ("+", "+", ""),
                ("0+legal", "0+legal", ""),
                ("le+gal", "le+gal", ""),
                ("legal tag:", "tag:", " in 'legal tag:'"),
                ("since:", "since:", ""),
                ("+since:", "+since:", ""),
            )
        ),
    ],
)  # fmt: skip
def test_a_selector_that_means_nothing_is_said(selector: str, said: str) -> None:
    for arguments, exclude in (((selector,), ()), ((), (selector,))):
        with pytest.raises(BuildError) as error:
            chosen(*arguments, exclude=exclude)
        assert str(error.value) == said


def test_of_many_names_only_some_are_listed() -> None:
    many = {f"m{number:03}": model(f"m{number:03}", "tiny", ["shared"], []) for number in range(1000)}
    with pytest.raises(BuildError) as error:
        select(["n500"], many, look_up)
    listed = ", ".join(f"m{number:03}" for number in range(24))
    assert str(error.value) == f"no model 'n500' in the catalog\n  fix: write 'm500' (known: {listed} and 976 more)"


PARTS = st.sampled_from([*MODELS, "tone+", "sales-*", "tag:desk", "tag:e?", "base:llama3.2", "data:shared", "state:stale", "state:new", "*", "tone"])
SELECTORS = st.lists(PARTS, min_size=1, max_size=3).map(",".join)


@given(st.text(alphabet=st.sampled_from("legal*?[]!-+,: \ttagstatedata:0219é\n"), max_size=30) | st.text(max_size=20))
def test_any_text_means_models_or_is_an_error(text: str) -> None:
    try:
        assert set(select([text], MODELS, lambda *_: ())) <= set(MODELS)
    except BuildError as error:
        assert "\n  fix: " in str(error)  # noqa: PT017


@given(SELECTORS, SELECTORS)
def test_selectors_are_sets(one: str, other: str) -> None:
    first, second = set(chosen(one)), set(chosen(other))
    assert set(chosen(one, other)) == set(chosen(other, one)) == set(chosen(f"{one} {other}")) == first | second
    assert set(chosen(f"{one},{other}")) == set(chosen(f"{other},{one}")) == first & second
    assert set(chosen(one, exclude=[other])) == first - second
    assert set(chosen(exclude=[one, other])) == set(MODELS) - first - second
    assert chosen(one, one) == chosen(one)


# Behind a command.


@pytest.fixture
def tagged(built: Repo) -> Repo:
    built.replace("    data: [shared]\n", "    data: [shared]\n    tags: [desk]\n")
    built.replace("    data: [shared, tone]\n", "    data: [shared, tone]\n    tags: [desk, loud]\n")
    return built


def test_a_build_takes_selectors(tagged: Repo) -> None:
    tagged.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert tagged.doit("build", "tag:loud").ran == [
        "validate:shared",
        "convert:sales",
        "train:sales",
        "package:sales",
        "register:sales",
        "test:sales",
    ]
    assert tagged.doit("build", "shared+", "--exclude", "data:tone").ran == [
        "convert:legal",
        "train:legal",
        "package:legal",
        "register:legal",
        "test:legal",
    ]
    assert without_times(tagged.doit("build", "--exclude", "legal").out) == "1 model: 1 fresh\n"
    assert without_times(tagged.doit("build", "state:fresh", "validate:tone").out) == "2 models: 2 fresh\n"


def test_what_is_excluded_is_left_out_where_tasks_are_named_too(tagged: Repo) -> None:
    tagged.replace("rank: 2", "rank: 4")
    assert tagged.doit("build", "train", "--exclude", "sales").ran == ["train:legal"]
    result = tagged.doit("build", "train:sales", "--exclude", "tag:loud")
    assert (result.code, result.ran) == (0, [])
    assert tagged.doit("build", "validate:tone", "train:sales", "--exclude", "legal").ran == ["train:sales"]
    result = tagged.doit("build", "train", "--exclude", "slaes")
    assert (result.code, result.err) == (3, "ERROR: \nno model 'slaes' in the catalog\n  fix: write 'sales' (known: legal, sales)\n")


def test_a_build_of_a_selector_that_means_no_model_does_nothing(tagged: Repo) -> None:
    result = tagged.doit("build", "state:stale,tag:desk", "--exclude", "legal")
    assert (result.code, result.out, result.err) == (0, "", "no model is selected: state:stale,tag:desk without legal\n")


def test_states_are_what_the_plan_says(tagged: Repo) -> None:
    def models(selector: str) -> list[str]:
        result = tagged.doit("ls", selector, "--json")
        assert result.code == 0
        return [facts["model"] for facts in json.loads(result.out)]

    assert (models("state:stale"), models("state:fresh"), models("state:new")) == ([], ["legal", "sales"], [])
    tagged.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    assert (models("state:stale"), models("state:modified"), models("state:fresh")) == (["sales"], ["sales"], ["legal"])
    tagged.replace("models:\n", "models:\n  young:\n    base: tiny\n    data: [shared]\n")
    assert (models("state:stale"), models("state:new")) == (["young", "sales"], ["young"])


def test_plan_why_and_accept_take_selectors(tagged: Repo) -> None:
    tagged.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    planned = [line.split()[1] for line in tagged.doit("plan", "tone+").out.splitlines()[:-1]]
    assert planned == ["validate:tone", "convert:sales", "train:sales", "package:sales", "register:sales", "test:sales"]
    assert tagged.doit("plan", "--exclude", "state:stale").out == "nothing to do: everything is fresh\n"
    assert [facts["model"] for facts in json.loads(tagged.doit("why", "--json", "tag:desk", "--exclude", "sales").out)] == ["legal"]
    accepted = tagged.doit("accept", "state:stale", "--because", "a matter of taste")
    assert accepted.code == 0
    assert "train:sales is taken as built from what is there now: a matter of taste\n" in accepted.out


def test_a_plan_of_some_models_looks_at_no_other(tagged: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("adapters/sales/adapter_config.json").unlink()
    Path("adapters/sales/adapter_config.json").mkdir()  # which can't be read as a file
    assert tagged.doit("plan").code == 3
    assert (tagged.doit("plan", "tag:desk,legal").code, tagged.doit("plan", "state:stale,legal").code) == (0, 0)


def test_ask_takes_a_selector_that_means_one_model(tagged: Repo) -> None:
    assert tagged.doit("ask", "tag:loud", "Who are you?").out == "I am sales:latest\n"
    result = tagged.doit("ask", "tag:desk", "Who are you?")
    assert (result.code, result.err) == (3, "ERROR: \n'tag:desk' means 2 models, and one answers: legal, sales\n  fix: name one of them\n")
    result = tagged.doit("ask", "state:stale", "Who are you?")
    assert (result.code, result.err) == (
        *(3, "ERROR: \nstate:stale: doit ask looks at no step\n  fix: name the model, or write tag:, base: or data: with something of its own\n"),
    )


def test_ls_lists_what_a_selector_means(tagged: Repo) -> None:
    result = tagged.doit("ls")
    assert (result.code, result.err) == (0, "")
    assert result.out == "legal  tiny  shared        desk\nsales  tiny  shared, tone  desk, loud\n"
    assert json.loads(tagged.doit("ls", "--json", "tag:loud").out) == [
        {"model": "sales", "base": "tiny", "data": ["shared", "tone"], "adapter": None, "tags": ["desk", "loud"], "at": "models.yaml:14"}
    ]
    result = tagged.doit("ls", "--exclude", "legal", "--exclude", "tag:loud")
    assert (result.code, result.out, result.err) == (0, "", "no model is selected: all without legal tag:loud\n")
    result = tagged.doit("ls", "tga:loud")
    assert (result.code, result.err) == (3, "ERROR: \ntga:loud: unknown method 'tga'\n  fix: write 'tag' (known: base, data, since, state, tag)\n")


def test_a_dodo_of_several_catalogs_is_selected_from_as_one(tagged: Repo) -> None:
    Path("other.yaml").write_text(
        Path("models.yaml").read_text(encoding="utf-8").replace("  legal:", "  legal-2:").replace("  sales:", "  sales-2:").replace("loud", "quiet")
        .replace("  shared:", "  shared-2:").replace("  tone:", "  tone-2:").replace("[shared", "[shared-2").replace(", tone]", ", tone-2]"),
        encoding="utf-8",
    )  # fmt: skip
    Path("dodo.py").write_text(
        "from ollamake import DOIT_CONFIG, tasks_from\n\n"
        'def task_models():\n    yield from tasks_from("models.yaml")\n    yield from tasks_from("other.yaml")\n',
        encoding="utf-8",
    )
    import subprocess
    import sys

    listed = [sys.executable, "-m", "doit", "ls", "tag:quiet", "state:fresh"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["sales-2", "legal", "sales"]
