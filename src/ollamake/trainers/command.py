"""Any program as a trainer: an argv from the catalog, run without a shell."""

from __future__ import annotations

from pathlib import Path

from ollamake.trainers.adapter_folder import adapter_folder
from ollamake.trainers.port import Capabilities, Command, Job, Trainer


class CommandTrainer(Trainer):
    """Runs `train.command`, with {text}, {base}, {out} and {recipe} replaced by paths, and {gpus} by their number; the program writes a PEFT adapter into {out}.

    Nobody knows what the program is made of, so it has no versions. One that wants to show its progress writes JSON objects in Event's words.
    """

    name = "command"
    text_format = "chat"
    capabilities = Capabilities(reports_progress=True)

    def plan(self, job: Job) -> Command:
        """The catalog's argv. {recipe} is the job.json, which holds the recipe under `recipe`."""
        places = {
            "{text}": str(job.text),
            "{base}": str(job.base["gguf"]),
            "{out}": str(job.out),
            "{recipe}": str(job.folder / "job.json"),
            "{gpus}": str(job.gpus),
        }
        return Command(argv=tuple(_filled(word, places) for word in job.recipe["command"]), in_job=False)

    def collect(self, folder: Path) -> Path:
        """The PEFT directory that the program has left in {out}. Raises BuildError."""
        return adapter_folder(folder / "out")


def _filled(word: str, places: dict[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word
