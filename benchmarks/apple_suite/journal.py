"""pytest plugin beside coreml_predict_plugin: runs given cases, and writes each result at once.

SUITE_JOURNAL=file.jsonl   a line when a case begins and one when it has ended
SUITE_ONLY=file            run these cases alone: one key a line
SUITE_LIMIT_S=seconds      what a case may take
SUITE_COMMIT=commit        is written into each result
SUITE_COLLECT=file.jsonl   run nothing: write each case's key, and each file that cannot be imported
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coreml_predict_plugin as plugin
import numpy as np
import pytest
from cases import keys_of
from coremltools.converters.mil.mil.builder import Builder
from coremltools.test import utils as apple_utils

FREEZE_EVERY = 20  # cases
_keys: dict[int, str] = {}
_open = plugin._MLModelProxy.__init__


def _open_function(
    self: Any, path: str, compute_units: str, function_name: str = "", *rest: Any, **options: Any
) -> None:
    """The plugin's model, which looks at once for a function that is named, as Apple's framework does."""
    _open(self, path, compute_units, function_name, *rest, **options)
    if function_name:
        functions = plugin._load_spec(self.path).description.functions
        if function_name not in ([function.name for function in functions] or ["main"]):
            raise RuntimeError(f"no function {function_name}")


plugin._MLModelProxy.__init__ = _open_function


def _housing() -> dict[str, Any]:
    """Numbers in the form of the housing data of Boston, which coremltools' tests would download."""
    chance = np.random.default_rng(0)
    data = chance.gamma(2.0, 10.0, (506, 13))
    data[:, 3], data[:, 8] = chance.integers(0, 2, 506), chance.integers(1, 25, 506)
    target = np.abs(22 + 0.2 * data[:, 5] - 0.3 * data[:, 12] + chance.normal(0, 3, 506))
    names = "CRIM ZN INDUS CHAS NOX RM AGE DIS RAD TAX PTRATIO B LSTAT"
    return {"data": data, "target": target, "feature_names": np.array(names.split())}


apple_utils.load_boston = _housing
with contextlib.suppress(
    ImportError
):  # gives libsvm the names of its kinds, which a test wants without asking
    import svmutil  # noqa: F401


def _listed() -> set[str]:
    file = os.environ.get("SUITE_ONLY")
    return set() if file is None else set(Path(file).read_text().splitlines())


def _write(variable: str, *rows: dict[str, Any]) -> None:
    with Path(os.environ[variable]).open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


# Last in, first asked: every case has its key before the plugin takes a shard or a sample.
@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    keys = keys_of(item.nodeid for item in items)
    _keys.update({id(item): key for item, key in zip(items, keys, strict=True)})
    only = _listed()
    yield
    if "SUITE_COLLECT" in os.environ:
        _write("SUITE_COLLECT", *({"key": key} for key in keys))
        items.clear()
    items[:] = [item for item in items if _keys[id(item)] in only]
    _freeze()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed and "SUITE_COLLECT" in os.environ:
        _write("SUITE_COLLECT", {"file": report.nodeid, "why": str(report.longrepr).splitlines()[-1]})


def _too_long(*_: object) -> None:
    raise TimeoutError(f"took longer than {os.environ['SUITE_LIMIT_S']} s")


def _freeze() -> None:
    """Let the collector forget what is there; coremltools runs it after each conversion.

    With 34,000 cases in memory, that is most of the time; later, with what the tests leave behind.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    key = _keys[id(item)]
    before, began = len(plugin._rows), time.perf_counter()
    _write("SUITE_JOURNAL", {"key": key, "begun": True})
    Builder.name_count.clear()  # tests know their outputs as relu_0, whatever ran or was imported before
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, float(os.environ["SUITE_LIMIT_S"]))
    try:
        answer = yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if len(plugin._rows) % FREEZE_EVERY == 0:
        _freeze()
    # A case that fails in a fixture leaves no row.
    row = plugin._rows[-1] if len(plugin._rows) > before else {"cls": "setup-error"}
    seconds = round(time.perf_counter() - began, 3)
    _write("SUITE_JOURNAL", {**row, "key": key, "seconds": seconds, "commit": os.environ["SUITE_COMMIT"]})
    return answer
