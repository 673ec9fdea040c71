"""An adapter comes from the Hugging Face Hub, and goes there, by the Hub's own library: each doit in a process of its own, as that reads its settings once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo, Result
from fake_ollama import Refusal
from hub_server import HubServer
from ollamake.errors import BuildError
from ollamake.hub import api as of_api
from ollamake.hub.card import About, card
from ollamake.hub.failures import failures_of

pytest.importorskip("huggingface_hub", reason="pip install 'ollamake[hub]'")

AWAY, AGAIN = "the Hub can't be reached, or broke off: ", "look after the network, then run `doit` again; what is there already stays"


class Lying(dict[str, bytes]):
    """Files that stay as they are, whatever is put in their place."""

    def __setitem__(self, key: str, value: bytes) -> None:
        self.setdefault(key, value)


@dataclass
class Fetching:
    """A repo with a model whose adapter is on a Hub."""

    repo: Repo
    hub: HubServer
    commit: str
    files: dict[str, bytes]

    def doit(self, *words: str, **environment: str) -> Result:
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.repo.path / "hf-home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",  # no server of it could be run here
            **environment,
        }
        done = subprocess.run([sys.executable, "-m", "doit", *words], cwd=self.repo.path, env=variables, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def names(self, adapter: str) -> None:
        path = self.repo.path / "models.yaml"
        head = path.read_text(encoding="utf-8").partition("models:\n")[0].replace("  shared: {files: [datasets/shared.jsonl]}\n", "")
        head = head.replace("datasets:\n  tone: {files: [datasets/tone.jsonl]}\n", "")
        path.write_text(f"{head}models:\n  pirate:\n    base: tiny\n    adapter: {adapter}\n", encoding="utf-8")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


@pytest.fixture
def fetching(built: Repo, hub: HubServer) -> Fetching:
    files = {name: (built.path / "adapters/legal" / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}
    commit = hub.add("someone/pirate", {**files, "README.md": b"# Arr", "evil.py": b"raise SystemExit"})
    (built.path / "dodo.py").write_text(DODO, encoding="utf-8")
    found = Fetching(built, hub, commit, files)
    found.names(f"hf://someone/pirate@{commit}")
    return found


def test_an_adapter_of_the_hub_is_fetched_once(fetching: Fetching) -> None:
    assert fetching.doit("check").code == 0  # it is not lost: it was not fetched yet
    result = fetching.doit()
    assert result.code == 0, result.out + result.err
    assert result.ran == ["fetch:pirate", "package:pirate", "register:pirate", "test:pirate"]
    place = fetching.repo.path / "build/pirate/hub"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == fetching.files  # and nothing else of the repo
    fetched = {path.rpartition("/")[2] for _, path in fetching.hub.requests if "/resolve/" in path}
    assert fetched == set(fetching.files)
    fetching.hub.requests.clear()
    again = fetching.doit()
    assert (again.code, again.ran, fetching.hub.requests) == (0, [], [])


def test_what_was_fetched_once_comes_back_without_the_network(fetching: Fetching) -> None:
    assert fetching.doit().code == 0
    shutil.rmtree(fetching.repo.path / "build")
    fetching.hub.requests.clear()
    result = fetching.doit(HF_HUB_OFFLINE="1")
    assert result.code == 0, result.out + result.err
    assert fetching.hub.requests == []
    assert "fetch:pirate" in result.ran


def test_a_damaged_file_is_got_again(fetching: Fetching) -> None:
    assert fetching.doit().code == 0
    path = fetching.repo.path / "build/pirate/hub/adapter_model.safetensors"
    path.write_bytes(b"damaged")
    result = fetching.doit()
    assert (result.code, result.ran) == (0, ["fetch:pirate"])
    assert path.read_bytes() == fetching.files["adapter_model.safetensors"]


def test_what_is_damaged_in_the_library_s_cache_is_got_again(fetching: Fetching) -> None:
    assert fetching.doit("fetch").code == 0
    shutil.rmtree(fetching.repo.path / "build")
    weights = fetching.files["adapter_model.safetensors"]
    (kept,) = (fetching.repo.path / "hf-home").rglob(hashlib.sha256(weights).hexdigest())
    kept.write_bytes(weights[:-1] + b"!")
    assert fetching.doit("fetch").code == 0
    assert (fetching.repo.path / "build/pirate/hub/adapter_model.safetensors").read_bytes() == weights


def test_other_bytes_than_their_digest_says_are_refused(fetching: Fetching) -> None:
    digest = hashlib.sha256(fetching.files["adapter_model.safetensors"]).hexdigest()
    fetching.hub.objects = Lying({digest: fetching.files["adapter_model.safetensors"][:-1] + b"!"})
    result = fetching.doit("fetch")
    assert result.code == 1
    assert "adapter_model.safetensors comes with other bytes than its digest says\n  fix: run `doit` again; if it stays so" in result.out
    assert not (fetching.repo.path / "build/pirate/hub/adapter_model.safetensors").exists()


def test_a_token_does_not_go_to_where_weights_are_sent_for(fetching: Fetching) -> None:
    other = HubServer()
    fetching.hub.elsewhere = other.url
    other.objects = {hashlib.sha256(content).hexdigest(): content for content in fetching.files.values()}
    try:
        assert fetching.doit("fetch", HF_TOKEN="hf_writes").code == 0
    finally:
        other.close()
    assert set(other.seen) == {None}


@pytest.mark.parametrize(("says", "said"), [(404, "the Hub says: "), (403, "the Hub does not let you (403)")])
def test_what_the_hub_says_is_told(fetching: Fetching, says: int, said: str) -> None:
    fetching.hub.says = says
    assert said in fetching.doit("fetch").out


def test_of_folders_in_a_repo_only_those_are_offered_that_can_be_named(fetching: Fetching) -> None:
    odd = ("../up", "a//b", "\x1b[31mred")
    commit = fetching.hub.add("someone/odd", {f"{folder}/adapter_config.json": b"{}" for folder in (*odd, "good one")})
    fetching.names(f"hf://someone/odd@{commit}")
    assert "\n  fix: name the folder that it is in: good one\n" in fetching.doit("fetch").out


def test_an_adapter_may_lie_in_a_folder(fetching: Fetching) -> None:
    commit = fetching.hub.add("someone/many", {f"loras/one/{name}": content for name, content in fetching.files.items()})
    fetching.names(f"hf://someone/many@{commit}/loras/one")
    assert fetching.doit("fetch").code == 0
    fetching.names(f"hf://someone/many@{commit}")
    result = fetching.doit("fetch")
    assert result.code == 1
    assert "someone/many has no adapter_config.json at this commit\n  fix: name the folder that it is in: loras/one\n" in result.out


def test_a_pickle_is_never_fetched(fetching: Fetching) -> None:
    commit = fetching.hub.add("someone/old", {"adapter_config.json": fetching.files["adapter_config.json"], "adapter_model.bin": b"cos\nsystem\n"})
    fetching.names(f"hf://someone/old@{commit}")
    result = fetching.doit("fetch")
    assert result.code == 1
    assert (
        "its weights are in adapter_model.bin, a pickle, which may run any program when it is loaded: it is never fetched\n  fix: have" in result.out
    )
    assert not [path for _, path in fetching.hub.requests if path.endswith(".bin")]


@pytest.mark.parametrize(
    ("what", "said", "fix"),
    [
        ("no repo", "there is no someone/gone, or it is not for everybody", "mend the name; or, where it is private: `hf auth login`, or $HF_TOKEN"),
        ("gated", "someone/gated is gated", "ask for access at https://huggingface.co/someone/gated; then `hf auth login`, or $HF_TOKEN"),
        ("no commit", "someone/pirate has no such commit", "take one of https://huggingface.co/someone/pirate/commits/main"),
        pytest.param("cut off", AWAY, AGAIN, marks=pytest.mark.thorough),  # its library tries again for a while
        pytest.param("away", AWAY, AGAIN, marks=pytest.mark.thorough),
        ("offline", "it is not here yet, and $HF_HUB_OFFLINE is set", "unset it, then run `doit` again; what was fetched once stays"),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(fetching: Fetching, what: str, said: str, fix: str) -> None:
    hub, environment = fetching.hub, {}
    if what == "no repo":
        fetching.names(f"hf://someone/gone@{fetching.commit}")
    elif what == "gated":
        fetching.names(f"hf://someone/gated@{hub.add('someone/gated', fetching.files, gated=True)}")
    elif what == "no commit":
        fetching.names(f"hf://someone/pirate@{'0' * 40}")
    elif what == "cut off":
        hub.cuts_off = True
    elif what == "away":
        environment = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    else:
        environment = {"HF_HUB_OFFLINE": "1"}
    result = fetching.doit("fetch", **environment)
    assert result.code == 1, result.out + result.err
    assert "can't fetch hf://someone/" in result.out
    assert said in result.out
    assert f"\n  fix: {fix}\n" in result.out
    assert "Traceback" not in result.out + result.err
    hub.cuts_off = False
    if what in {"cut off", "away", "offline"}:
        assert fetching.doit("fetch").code == 0


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (
            "hf://someone/pirate",
            "adapter: 'hf://someone/pirate' names no commit\n  fix: name the commit: `git ls-remote https://huggingface.co/someone/pirate HEAD` prints it\n",
        ),
        ("hf://someone/pirate@main", "'main' may mean another commit tomorrow: it is none of 40 digits\n  fix: name the commit: `git ls-remote "),
        ("hf://pirate@main", "'hf://pirate@main' names no repo of the Hub\n  fix: write hf://OWNER/NAME@COMMIT"),
        ("https://huggingface.co/someone/pirate", "is how a browser finds it\n  fix: write hf://OWNER/NAME@COMMIT"),
        *(
            (
                f"'hf://someone/pirate@{'0' * 40}/{path}'",
                "is no path in a repo\n  fix: write hf://OWNER/NAME@COMMIT, or hf://OWNER/NAME@COMMIT/FOLDER, as",
            )
            for path in ("../x", "/etc/x", "x//y", "./x", "x/.", "x//", "x\\y", "%2e%2e/x", "x?y", "x#y", "/")
        ),
        (f"hf://some--one/pirate@{'0' * 40}", "names no repo of the Hub\n"),
        (f"hf://someone/..pirate@{'0' * 40}", "names no repo of the Hub\n"),
        (f"hf://someone/pirate@{'0' * 40}/adapter_model.bin", "is a pickle, which may run any program when it is loaded"),
    ],
)
def test_what_names_no_adapter_is_said_at_its_line(repo: Repo, hub: HubServer, adapter: str, said: str) -> None:
    fetching = Fetching(repo, hub, "", {})
    fetching.names(adapter)
    result = repo.doit()
    assert result.code == 3
    assert said.removeprefix("adapter: ") in result.err
    assert result.err.startswith("ERROR: \nmodels.yaml:")


@pytest.fixture
def pushing(built: Repo, hub: HubServer) -> Fetching:
    (built.path / "dodo.py").write_text(DODO, encoding="utf-8")
    built.replace("    data: [shared]\n", "    data: [shared]\n    push: {hub: our-team/legal-lora}\n")
    return Fetching(built, hub, "", {})


def test_an_adapter_is_pushed_with_its_card_once(pushing: Fetching) -> None:
    result = pushing.doit("push", HF_TOKEN="hf_writes")
    assert result.code == 0, result.out + result.err
    repo = pushing.hub.repos["our-team/legal-lora"]
    assert repo.private
    files = repo.commits[repo.main]
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert files[name] == (pushing.repo.path / "adapters/legal" / name).read_bytes()
    text = files["README.md"].decode()
    assert text.startswith('---\nlibrary_name: "peft"\ntags: ["lora", "ollamake"]\n---\n\n# legal\n')
    assert "| shared | 5 |" in text
    assert "| train.rank | 2 |" in text
    assert repo.messages[-1].startswith("legal: ")
    pushing.hub.requests.clear()
    again = pushing.doit("push", HF_TOKEN="hf_writes")
    assert (again.code, again.ran, pushing.hub.requests) == (0, [], [])


def test_a_gguf_lora_is_not_said_to_be_peft_s(pushing: Fetching) -> None:
    assert pushing.doit("build", "legal").code == 0
    Path("lora.gguf").write_bytes(Path("build/legal/adapter.gguf").read_bytes())
    pushing.repo.replace("    data: [shared]\n    push:", "    adapter: lora.gguf\n    push:")
    result = pushing.doit("push", HF_TOKEN="hf_writes")
    assert result.code == 0, result.out + result.err
    repo = pushing.hub.repos["our-team/legal-lora"]
    files = repo.commits[repo.main]
    assert set(files) == {".gitattributes", "README.md", "lora.gguf"}
    text = files["README.md"].decode()
    assert text.startswith('---\nlibrary_name: "gguf"\n')
    assert "A LoRA adapter, checked against its base, and published, by ollamake.\n" in text


def test_a_target_that_fails_keeps_no_other_from_it(pushing: Fetching) -> None:
    pushing.repo.replace("{hub: our-team/legal-lora}", "{hub: our-team/legal-lora, ollama: our-team/legal}")
    pushing.repo.server.refusals.append(Refusal("/api/push", 500, "no such host"))
    result = pushing.doit("push", HF_TOKEN="hf_writes")
    assert result.code == 1
    assert "can't push our-team/legal:latest" in result.out
    assert "our-team/legal-lora" in pushing.hub.repos
    pushing.hub.requests.clear()
    assert pushing.doit("push", HF_TOKEN="hf_writes").code == 0
    assert (list(pushing.repo.server.pushed), pushing.hub.requests) == (["our-team/legal:latest"], [])


@pytest.mark.parametrize("words", [("fetch",), ("push",)])
def test_what_is_no_hub_is_said_to_be_none(fetching: Fetching, words: tuple[str, ...]) -> None:
    if words == ("push",):
        fetching.repo.replace(f"adapter: hf://someone/pirate@{fetching.commit}", "adapter: adapters/legal\n    push: {hub: our-team/legal-lora}")
        assert fetching.doit().code == 0
    fetching.hub.is_a_hotel = True
    result = fetching.doit(*words, HF_TOKEN="hf_writes")
    assert (result.code, "Traceback" in result.out + result.err) == (1, False), result.out
    assert "the Hub" in result.out
    assert words == ("fetch",) or "; then run `doit push pirate` again\n" in result.out


def test_a_hub_that_does_not_answer_is_given_up(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session

    monkeypatch.setattr(of_api, "PATIENCE", 0.2)
    hub.hangs = True
    api = of_api.hub_api()
    api.endpoint, api.token = hub.url, "hf_writes"
    try:
        with (
            pytest.raises(BuildError, match="can't push: the Hub can't be reached, or broke off: "),
            failures_of("can't push", "our-team/legal-lora", "doit push legal"),
        ):
            api.create_repo("our-team/legal-lora")
    finally:
        close_session()


def test_a_public_repo_is_made_where_the_catalog_says_so(pushing: Fetching) -> None:
    pushing.repo.replace("{hub: our-team/legal-lora}", "{hub: {repo: our-team/legal-lora, private: false}}")
    assert pushing.doit("push", HF_TOKEN="hf_writes").code == 0
    assert not pushing.hub.repos["our-team/legal-lora"].private


@pytest.mark.parametrize("token", ["hf_reads", ""])
def test_who_may_not_write_is_told_so(pushing: Fetching, token: str) -> None:
    result = pushing.doit("push", **({"HF_TOKEN": token} if token else {}))
    assert result.code == 1
    assert "model 'legal': can't push to our-team/legal-lora: " in result.out
    assert "  fix: `hf auth login`, or $HF_TOKEN" in result.out
    assert "hf_reads" not in result.out + result.err
    assert pushing.doit("push", HF_TOKEN="hf_writes").code == 0


def test_of_a_model_that_was_rolled_back_no_adapter_is_pushed(pushing: Fetching) -> None:
    pushing.repo.records("shared").write_text('{"instruction": "Who?", "output": "Me."}\n', encoding="utf-8")
    assert pushing.doit("build", "legal").code == 0
    assert pushing.doit("rollback", "legal").code == 0
    result = pushing.doit("push", HF_TOKEN="hf_writes")
    assert result.code == 1
    assert "an earlier version of the model is used, and the adapter that is here is not its own\n  fix: roll forward" in result.out
    assert "our-team/legal-lora" not in pushing.hub.repos


def test_without_the_library_it_is_said_how_to_get_it(fetching: Fetching) -> None:
    blocked = Path(fetching.repo.path, "blocked")
    blocked.mkdir()
    (blocked / "huggingface_hub.py").write_text("raise ImportError('no')\n", encoding="utf-8")
    places = os.pathsep.join(filter(None, (str(blocked), os.environ.get("PYTHONPATH"))))
    result = fetching.doit("fetch", PYTHONPATH=places)
    assert result.code == 1
    assert "huggingface_hub is not installed\n  fix: pip install 'ollamake[hub]'\n" in result.out


def test_nothing_in_a_card_is_more_than_text() -> None:
    nasty = "x\n---\nlicense: mit\n<script>alert(1)</script> | [a](javascript:b) `c` @team $x$ https://host/x www.host &lt; \x1b[1m\u202e"
    key = f"hf_{'a' * 34}"
    facts: dict[str, Any] = {
        "name": nasty,
        "base": nasty,
        "base_model": nasty,
        "base_digest": None,
        "weights": "sha256:0",
        "tests": nasty,
        "commit": None,
        "is_gguf": False,
        "is_given": False,
    }
    text = card(About(**facts, recipe={nasty: [nasty, key]}, data=[{"name": nasty, "records": 1}], version="1"))
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert len(head.splitlines()) == 4
    assert "<script>" not in body
    assert "](javascript" not in body
    assert key.replace("_", r"\_") not in body
    assert r"hf\_a..." in body
    assert r"\@team \$x\$ https\://host/x www\.host \&lt; \\u001b\[1m\\u202e" in body
    assert all(line.count("|") - line.count("\\|") == 3 for line in body.splitlines() if line.startswith("| "))
