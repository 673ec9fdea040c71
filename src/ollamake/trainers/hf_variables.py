"""Variables of the environment that each program has that runs Hugging Face's libraries here."""

from __future__ import annotations

import os

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # by which a user says how threads wait
# Rounds that a thread of GNU's OpenMP waits at full speed before it sleeps. torch's threads wait for one another thousands of times a second, and by
# default for some milliseconds at full speed: beside other work they so keep the very thread from its core that they wait for, and a training takes several
# times as long. Those that sleep at once take a quarter longer on a machine that does nothing else; these 2 to 4 %.
ROUNDS = "1000"


def hf_variables(*, offline: bool) -> dict[str, str]:
    """Nobody is told of it, threads that wait leave their core to others, and nothing is fetched where all is there (`offline`)."""
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **({} if any(name in os.environ for name in WAITING) else {"GOMP_SPINCOUNT": ROUNDS}),
        **({"HF_HUB_OFFLINE": "1"} if offline else {}),
    }
