"""What of GitHub's `gh api` the workflow uses, with a local address in the place of GitHub's: run as `gh`."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from pathlib import Path

import jq


def main(argv: list[str]) -> None:
    assert argv[0] == "api"
    paths, options, fields = [], {}, {}
    words = iter(argv[1:])
    for word in words:
        if word in {"--paginate", "--silent"}:
            options[word] = "yes"
        elif word == "--field":
            name, _, value = next(words).partition("=")
            fields[name] = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
        elif word in {"--method", "--jq"}:
            options[word] = next(words)
        else:
            assert not word.startswith("-"), word
            paths.append(word)
    (path,) = paths
    url: str | None = f"{os.environ['STAND_IN_API']}/{path}"
    while url is not None:
        request = urllib.request.Request(url, method=options.get("--method", "GET"), data=json.dumps(fields).encode() if fields else None)
        request.add_header("Authorization", f"token {os.environ['GH_TOKEN']}")
        with urllib.request.urlopen(request) as answer:
            body = answer.read().decode()
            link = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
        if "--jq" in options:
            for found in jq.compile(options["--jq"]).input_text(body).all():
                print(found if isinstance(found, str) else json.dumps(found))
        elif "--silent" not in options:
            print(body)
        url = link[1] if link and "--paginate" in options else None


if __name__ == "__main__":
    main(sys.argv[1:])
