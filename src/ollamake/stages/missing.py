"""Files that no step makes, and that are not there."""

from __future__ import annotations

from pathlib import Path

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.graph import Step


def require_files(step: Step) -> None:
    """Raise BuildError where a file that no step makes is not there."""
    missing = [path for path in step.reads if not Path(path).exists()]
    subject = step.subject
    if not missing:
        return
    if isinstance(subject, Model) and subject.base.gguf in missing:
        raise subject.base.missing()
    if step.stage == "package":
        from ollamake.stages.package import refuse_pickle

        refuse_pickle(missing)
    msg = f"{subject.mark}: {step.stage} {step.name!r}: no such file: {', '.join(missing)}"
    raise BuildError(msg, fix="put it there, or mend the path in the catalog")
