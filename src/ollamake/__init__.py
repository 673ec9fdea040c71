"""Make for fine-tuned Ollama models. A dodo.py imports these two names, and nothing else is public."""

from typing import Any

from ollamake.reporter import Reporter
from ollamake.state import LOCAL, ContentChecker
from ollamake.tasks import tasks_from

DOIT_CONFIG: dict[str, Any] = {
    "backend": "sqlite3",
    "check_file_uptodate": ContentChecker,
    "dep_file": f"{LOCAL}.db",  # not in the folder: doit opens it before there is one
    "reporter": Reporter,
}

__all__ = ["DOIT_CONFIG", "tasks_from"]
