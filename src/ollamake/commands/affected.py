"""`doit affected --since REV [SELECTOR...]`: what an edit since a commit changes, from git and the lock alone."""

from __future__ import annotations

import json as to_json
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.commands.look import AS_JSON, Look
from ollamake.commands.markdown import AS_MARKDOWN, comment_on_edits, refuse_both
from ollamake.commands.select import EXCLUDE, say_notes, selected
from ollamake.git import clone_here
from ollamake.plan import BEHIND, LISTS, YES, Planned
from ollamake.since import Difference, common_commit, differences

SINCE = {
    "name": "since",
    "long": "since",
    "type": str,
    "default": "",
    "help": "a commit or branch: what it and HEAD have in common is compared with the working tree",
}


class AffectedCommand(Look):
    """Say what an edit changes."""

    name = "affected"
    doc_purpose = "list the models that edits since a commit change, and why"
    doc_usage = "--since REV [SELECTOR...]"
    doc_description = (
        "A line for each model: its name, the steps that run for the edit, those with `?` only where a step before them comes out otherwise, and why. "
        "Uncommitted edits and new files count. Neither data nor weights nor a server have to be there."
    )
    cmd_options = (SINCE, AS_JSON, AS_MARKDOWN, EXCLUDE)

    def _execute(self, *, since: str, json: bool, markdown: bool, exclude: Sequence[str], pos_args: Sequence[str]) -> int:
        if not since:
            msg = "usage: doit affected --since REV [SELECTOR...]"
            raise InvalidCommand(msg)
        refuse_both(json=json, markdown=markdown)
        catalogs = self.catalogs()
        wanted = set(selected(pos_args, exclude)) if pos_args or exclude else None
        commit = common_commit(since)
        different = differences(commit, catalogs)
        if markdown:
            found_in = [(one, *catalog) for one, catalog in zip(different, catalogs, strict=True)]
            self.outstream.write(comment_on_edits(since, commit, found_in, wanted, clone_here().prefix))
            return 0
        say_notes(different)
        found = [of_models(difference, wanted) for difference in different]
        facts: dict[str, Any] = {"since": since, "commit": commit}
        facts.update({kind: [fact for one in found for fact in one[kind]] for kind in ("models", "datasets", "gone")})
        if json:
            self.outstream.write(to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        else:
            count = len(facts["models"])
            print(f"{count or 'no'} model{' is' if count < 2 else 's are'} affected since {commit[:8]}", file=sys.stderr)
            for name in facts["gone"]:
                print(f"{name} is gone since {commit[:8]}; Ollama may have it still: `ollama rm {name}`", file=sys.stderr)
            self.outstream.write(as_text(facts))
        return 0


def of_models(difference: Difference, wanted: Collection[str] | None) -> dict[str, list[Any]]:
    """`models` and `datasets` that are affected, the latter where no model reads them, and models that are `gone`; `wanted`: of these models alone."""
    by_model = difference.by_model
    names = [name for name in by_model if wanted is None or name in wanted]
    read = {dataset.name for model in difference.models.values() for dataset in model.data}
    alone = [plan for plan in difference.plans if plan.step.stage == "validate" and plan.step.name not in read]
    return {
        "models": [
            {
                "model": name,
                "change": "changed" if name not in difference.added else "renamed" if difference.added[name] else "added",
                **({"was": difference.added[name]} if difference.added.get(name) else {}),
                "steps": [as_json(plan) for plan in by_model[name]],
            }
            for name in names
        ],
        "datasets": [{"dataset": plan.step.name, "steps": [as_json(plan)]} for plan in alone] if wanted is None else [],
        "gone": list(difference.gone) if wanted is None else [],
    }


def as_json(plan: Planned) -> dict[str, Any]:
    """A step for programs; of its time nothing is known."""
    return {key: value for key, value in plan.as_json().items() if key != "seconds"}


def as_text(facts: dict[str, Any]) -> str:
    """A line for each model, and each dataset that no model reads, with its name in front."""
    rows = [(model["model"], *_said(model["steps"], model.get("was"))) for model in facts["models"]]
    rows += [(f"validate:{dataset['dataset']}", *_said(dataset["steps"], None)) for dataset in facts["datasets"]]
    names, steps = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return "".join(f"{name:<{names}}  {step:<{steps}}  {why}\n" for name, step, why in rows)


def _said(steps: Sequence[dict[str, Any]], was: str | None) -> tuple[str, str]:
    stages = dict.fromkeys(f"{step['stage']}{'' if step['runs'] == YES else '?'}" for step in steps)
    reasons = dict.fromkeys(_reasons(steps))
    return " ".join(stages), "; ".join([*reasons, *([f"it was {was}"] if was else [])])


def _reasons(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        files_told = any(reason["kind"] in {"input new", "input gone"} for reason in step["reasons"])
        for reason in step["reasons"]:
            if reason["kind"] not in BEHIND and not (files_told and reason.get("what") in LISTS):
                yield f"{reason['text']} ({reason['at']})" if "at" in reason else reason["text"]
