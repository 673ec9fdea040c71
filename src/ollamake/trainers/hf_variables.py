"""Variables of the environment that each program has that runs Hugging Face's libraries here."""

from __future__ import annotations

import os


def hf_variables(*, offline: bool) -> dict[str, str]:
    """Nobody is told of it, threads that wait leave their core to others, and nothing is fetched where all is there (`offline`).

    torch's threads wait for one another thousands of times a second, and by default they do it at full speed. On a machine that does something else besides,
    the thread that they wait for is then kept from its core by those that wait: a training takes many times as long.
    """
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        **({"HF_HUB_OFFLINE": "1"} if offline else {}),
    }
