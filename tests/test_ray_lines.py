"""What a driver of a Ray cluster makes of Ray's errors."""

from __future__ import annotations

import pytest

from ollamake.engines.ray_client import unusable
from ollamake.engines.ray_lines import last_line

PIP = """\
Failed to set up runtime environment.
[Node 10.0.0.3] Traceback (most recent call last):
  File "/site-packages/ray/_private/runtime_env/agent/runtime_env_agent.py", line 561, in _create_runtime_env_with_retry
    runtime_env_context = await asyncio.wait_for(
                          ^^^^^^^^^^^^^^^^^^^^^^^
ray._private.runtime_env.utils.SubprocessCalledProcessError: Run cmd[13] failed with the following details.
Command '['/tmp/ray/virtualenv/bin/python', '-m', 'pip', 'install']' returned non-zero exit status 1.
Last 50 lines of stdout:
    Looking in indexes: https://pypi.org/simple
    ERROR: Could not find a version that satisfies the requirement no-such-package (from versions: none)
    ERROR: No matching distribution found for no-such-package
"""


def test_of_a_package_that_is_not_there_pip_s_last_word_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert str(unusable(last_line(RuntimeError(PIP)))) == (
        "Ray can't make the runtime_env: ERROR: No matching distribution found for no-such-package\n"
        "  fix: mend engine.runtime_env in the catalog; .ollamake/ray.log may say more"
    )
    assert PIP in capsys.readouterr().err  # which is the log
    assert last_line(RuntimeError("x" * 1000)) == "x" * 300 + "..."
    assert last_line(RuntimeError()) == "RuntimeError"
