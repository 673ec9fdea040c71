"""Draws run.svg, a run as a terminal shows it: `python docs/images/run.py`."""

import io
import re
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ollamake import bars
from ollamake.bars import TRAINING
from ollamake.view import View

MODELS = ("help-desk", "troubleshooter", "sales")
STEPS = [f"validate:{name}" for name in ("helpdesk", "errors", "tone")] + [
    f"{stage}:{name}" for stage in ("convert", "train", "package", "register", "test") for name in MODELS
]
SAID = """\
.  validate:errors  \x1b[2m(datasets/errors.jsonl changed)\x1b[0m
.  convert:troubleshooter  \x1b[2m(datasets/errors.jsonl changed)\x1b[0m
   troubleshooter: 167 records; tokens: median 47, p90 53, p99 60, longest 67 (at most 512)
.  train:troubleshooter  \x1b[2m(build/troubleshooter/text.jsonl changed)\x1b[0m
.  package:help-desk  \x1b[2m(serve.weights_type: q8_0 -> q4_k)\x1b[0m"""

console = Console(record=True, width=124, height=20, force_terminal=True, file=io.StringIO(), color_system="truecolor")
view = View(STEPS)
drawn = bars.Bars()
drawn.console, drawn.kinds = console, bars._kinds(console)  # noqa: SLF001
for step in STEPS:
    if step not in {"validate:errors", "convert:troubleshooter"} and step.startswith(("validate", "convert")):
        view.ended[step.partition(":")[0], "fresh"] += 1
view.ended["train", "fresh"] += 1
view.ended["validate", "done"] += 1
view.ended["convert", "done"] += 1
view.queue["train:sales"] = None
view.running |= {"train:troubleshooter": time.monotonic() - 38, "package:help-desk": time.monotonic() - 2.1}
view.begun -= 41
task = drawn.kinds[TRAINING].add_task("troubleshooter", total=168, completed=52, facts="step 52/168  loss 1.9120  198 tokens/s  1 min 58 s left")
drawn.shown = (bars.Bar(drawn, TRAINING, task, begun=True),)
drawn.foot = view.lines
console.print("$ doit")
console.print(Text.from_ansi(SAID))
console.print(drawn)
svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="doit"), flags=re.DOTALL)  # fonts of another's server
svg = re.sub(r"Fira Code,? ?", "", svg)
svg = re.sub(r"terminal-\d+-", "run-", svg)  # the same with each drawing
Path(__file__).with_suffix(".svg").write_text("\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n", encoding="utf-8")
