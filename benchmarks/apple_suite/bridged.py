"""pytest plugin beside coreml_predict_plugin: coremltools predicts through coremlops.bridge.

The plugin's stand-in makes way for ours; how it classes a case stays.
"""

from __future__ import annotations

import sys
from typing import Any

import coreml_predict_plugin as plugin

from coremlops import bridge
from coremlops.bridge import installation, standin
from coremlops.errors import BridgeError, UnsupportedOpsError


def _make_way() -> None:
    sys.modules.pop(installation.NATIVE)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "coremltools" and module is not None:
            for proxy in standin.PROXIES:
                if proxy in vars(module):
                    setattr(module, proxy, None)  # as where coremltools looked for the framework in vain
    if not bridge.install(precision="typed"):
        raise RuntimeError("the bridge did not install itself")


def _recorded(name: str, *, predicts: bool) -> None:
    """Let the plugin see a call of the stand-in, and what it raised."""
    call = getattr(standin._MLModelProxy, name)

    def recording(*args: Any, **options: Any) -> Any:
        plugin._cur["n"] += predicts
        try:
            return call(*args, **options)
        except BridgeError as error:
            unsupported = isinstance(error.__cause__, UnsupportedOpsError)
            plugin._cur["unsup" if unsupported else "exc"] = str(error)
            raise

    setattr(standin._MLModelProxy, name, recording)


_make_way()
_recorded("__init__", predicts=False)
_recorded("predict", predicts=True)
_recorded("batchPredict", predicts=True)
