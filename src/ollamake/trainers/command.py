"""Any program as a trainer: an argv from the catalog, run without a shell."""

from __future__ import annotations

from collections.abc import Mapping

from ollamake.trainers.port import Command, Event, Job, json_event


class CommandTrainer:
    """Runs `train.command`, with {text}, {base}, {out} and {recipe} replaced by paths; the program writes a PEFT adapter into {out}."""

    text_format = "chat"

    def missing(self) -> str | None:
        """Nothing: whether the program is there shows when it is started."""
        return None

    def versions(self) -> Mapping[str, str]:
        """None: nobody knows what the program is made of."""
        return {}

    def command(self, job: Job) -> Command:
        """The catalog's argv. {recipe} is the job.json, which holds the recipe under `recipe`."""
        places = {
            "{text}": str(job.text),
            "{base}": str(job.base["gguf"]),
            "{out}": str(job.out),
            "{recipe}": str(job.folder / "job.json"),
        }
        return Command(argv=tuple(_filled(word, places) for word in job.recipe["command"]), environment={})

    def event(self, line: str) -> Event | None:
        """A program that wants to show its progress writes JSON objects in Event's words; all else is for its log."""
        return json_event(line)


def _filled(word: str, places: dict[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word
