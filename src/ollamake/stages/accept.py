"""An adapter that is there -> the receipt of a training that did not run, with the reason why it need not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.digest import digest_value
from ollamake.freshness import Record
from ollamake.graph import VERSIONS, Step, weights_files
from ollamake.lora.architecture import read_architecture
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.whole_weights import WholeWeights
from ollamake.moments import moment
from ollamake.state.digests import file_digest
from ollamake.state.receipts import Receipt, read_receipt, receipt_path, write_receipt


def accepted(step: Step, keys: dict[str, Any], because: str, *, commit: str | None) -> Receipt:
    """Check the adapter of this training against its base, and leave the receipt that it is taken as trained from what is there now.

    What an earlier receipt says of how it came to be is kept. Raises BuildError where there is no adapter that fits, OSError.
    """
    model = step.subject
    assert isinstance(model, Model)
    if not Path(model.base.gguf).exists():
        raise model.base.missing()
    architecture = read_architecture(Path(model.base.gguf))
    if step.writes == weights_files(model):
        WholeWeights(Path(step.writes[0]), architecture.head)
    else:
        read_peft_adapter(Path(step.writes[0]).parent, architecture)
    path = receipt_path(step, "")
    before = read_receipt(path)
    targets = {target: file_digest(target) for target in step.writes}
    known = before if before is not None and dict(before.record.targets) == targets else None
    receipt = Receipt(
        record=Record(
            inputs={name: file_digest(file) for name, file in step.named_reads.items()},
            keys=digest_value(keys),
            targets=targets,
            versions=known.record.versions if known else {step.stage: VERSIONS[step.stage]},
            accepted=because,
        ),
        keys=keys,
        outcome=known.outcome if known else {},
        reasons=[f"accepted: {because}"],
        seconds=known.seconds if known else 0.0,
        finished=known.finished if known else moment(),
        commit=known.commit if known else commit,
    )
    write_receipt(path, receipt, durable=True)
    return receipt
