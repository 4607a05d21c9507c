"""Drive a client through the vectors: `python conformance/run.py [--only WORD] [--json] -- CLIENT [ARGS...]`.

CLIENT is started once. It reads one JSON object a line from its standard input and answers each with one
line; README.md has the requests. Needs Python 3.11 and nothing else. Exit code 0 when every vector passes,
1 when one fails, 2 when the client cannot be driven.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving import REPOSITORY, Serving, serving

VECTORS = Path(__file__).resolve().parent / "vectors"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One vector: `problem` is empty when it passed."""

    vector: str
    problem: str


class Client:
    """The client under test, as a process."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", bufsize=1
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer. Raises SystemExit when there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            answer = json.loads(line)
        except (OSError, ValueError) as error:
            print(f"the client gave no answer to {request.get('do')}: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        if not isinstance(answer, dict):
            print(f"the client answered no object to {request.get('do')}: {line:.200}", file=sys.stderr)
            raise SystemExit(2)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def vectors(only: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each vector with its name, `<file>/<name>`."""
    for path in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(path.read_text())["vectors"]:
            name = f"{path.stem}/{vector['name']}"
            if only in name:
                yield name, vector


def problem(expected: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """What is wrong with an answer; the words of an error are the client's own."""
    if "unsupported" in answer:
        return "not supported"
    if "error" in expected:
        return "" if "error" in answer else f"expected a refusal, got {json.dumps(answer)}"
    return "" if within(expected, answer) else f"expected {json.dumps(expected)}, got {json.dumps(answer)}"


def within(expected: Any, answer: Any) -> bool:
    """Whether an answer says what is expected, whatever else it says."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        return all(within(value, answer.get(key)) for key, value in expected.items())
    return bool(expected == answer)


def filled(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as it is sent: documents that stand in the vector as objects or text become base64."""
    ready = dict(request)
    for key, value in request.items():
        if isinstance(value, dict) and "document" in value:
            text = json.dumps(value["document"], separators=(",", ":")) + " " * value.get("spaces", 0) + "\n"
            ready[key] = encoded(text.encode())
        elif isinstance(value, dict) and set(value) == {"text"}:
            ready[key] = encoded(value["text"].encode())
    return ready


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def run(client: Client, vector: Mapping[str, Any], served: Serving) -> str:
    """Drive one vector; what went wrong, or nothing."""
    if "steps" not in vector:
        return problem(vector["expected"], client.ask(filled(vector["request"])))
    with tempfile.TemporaryDirectory() as folder:
        collection = vector.get("collection", "tiny")
        device = {"folder": f"{folder}/device", "collection": collection, "channel": "release"}
        begin = device | {"do": "install", "url": served.url, "root": str(REPOSITORY / "root.json")}
        wrong = problem({"ok": True}, client.ask(begin))
        for place, step in enumerate(vector["steps"], start=1):
            served.change(step["serve"], step.get("fault"))
            wrong = wrong or problem(
                step["expected"], client.ask(device | {"verdict": "pass"} | step["request"])
            )
            wrong = wrong or sent(served, step)
            if wrong:
                return f"step {place}: {wrong}"
    return ""


def sent(served: Serving, step: Mapping[str, Any]) -> str:
    """What went over the wire that should not have."""
    limits = dict.fromkeys(step.get("unsent", ()), 0) | step.get("sent_at_most", {})
    for name, most in limits.items():
        got = served.sent.get(served.path(name), 0)
        if got > most:
            return f"{got} bytes of {name} were sent, at most {most} were needed"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="drive a client through the conformance vectors")
    parser.add_argument("--only", default="", metavar="WORD", help="vectors whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("client", nargs="+", metavar="CLIENT", help="the command, after --")
    options = parser.parse_args(arguments)
    client = Client(options.client)
    with serving() as served:
        outcomes = [Outcome(name, run(client, vector, served)) for name, vector in vectors(options.only)]
    client.close()
    failed = [each for each in outcomes if each.problem]
    if options.json:
        print(
            json.dumps({"passed": len(outcomes) - len(failed), "failed": [asdict(each) for each in failed]})
        )
    else:
        for each in failed:
            print(f"FAILED {each.vector}: {each.problem}")
        print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
