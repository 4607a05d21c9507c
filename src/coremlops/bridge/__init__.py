"""coremltools' own `MLModel.predict`, off the Mac.

>>> import coremlops.bridge
>>> coremlops.bridge.install()                                   # doctest: +SKIP
True
>>> coremltools.models.MLModel("net.mlpackage").predict({...})   # doctest: +SKIP

coremltools asks Apple's framework through one native module, `coremltools.libcoremlpython`, which only its
macOS wheel carries. `install` puts a stand-in in its place; nothing of coremltools is edited, and where the
native module exists nothing changes at all. `coremlops bridge SCRIPT.py` does it for a script that nobody
wants to edit.

What works: `predict` of one dictionary or a list, `make_state` with `read_state` and `write_state`,
`function_name`, `compile_model`, `CompiledMLModel`, `MLModelAsset`, `get_compiled_model_path`, load and
predict durations. What Apple's framework alone can say, such as a compute plan, raises BridgeError, which is
a RuntimeError, too: what coremltools and its users expect of the framework.
"""

from __future__ import annotations

from coremlops.bridge.installation import install

__all__ = ["install"]
