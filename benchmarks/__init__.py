"""What is measured, and how to measure it again. What a benchmark starts has its bytecode, as where it was installed."""

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
