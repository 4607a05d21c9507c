"""The module that coremltools takes for `coremltools.libcoremlpython`: Apple's framework, as Python sees it.

The names are the native module's, and each does what that one does (coremltools' CoreMLPython.mm), with our
runtime in place of the framework. coremltools hands over dictionaries that it has checked, and expects a
RuntimeError when a model cannot be loaded or run: it then warns, and still converts and saves the model.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from coremlops.errors import BridgeError, CoremlopsError, InputError, ModelError, UsageError
from coremlops.model.description import ArrayFeature

if TYPE_CHECKING:
    from coremlops.runtime import Model

PROXIES = (
    "_MLModelProxy",
    "_MLModelAssetProxy",
    "_MLComputePlanProxy",
    "_MLCPUComputeDeviceProxy",
    "_MLGPUComputeDeviceProxy",
    "_MLNeuralEngineComputeDeviceProxy",
)
_PRECISIONS = ("typed", "float32", "float16")
_precision = "typed"


def set_precision(precision: str) -> None:
    """The numeric mode of the models that are loaded from now on. Raises UsageError."""
    global _precision
    if precision not in _PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; expected one of {', '.join(_PRECISIONS)}")
    _precision = precision


_FIRST_WITH_PROGRAMS = 6  # specification version; coremltools writes networks of layers as 5 at most
# Apple's words for a prediction that fails, which coremltools' tests and its users look for.
_FAILED = (
    "Unable to compute the prediction using {}. It can be an invalid input data or broken/unsupported model"
)


@contextmanager
def _framework_errors(executor: str = "") -> Iterator[None]:
    """Errors of ours, as coremltools and its users expect the framework's.

    `executor`: what Apple calls that which predicts; a failure in there then has Apple's words before ours.
    """
    try:
        yield
    except BridgeError:
        raise
    except CoremlopsError as error:
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        if executor and isinstance(error, ModelError):
            text = f"{_FAILED.format(executor)}: {text}"
        raise BridgeError(text, hint=error.hint) from error


def framework_predict(model: Model, data: Mapping[str, Any], state: Any = None) -> dict[str, Any]:
    """`model.predict` as the native module does it: colour pictures come as RGBA. Raises BridgeError."""
    program = model.description.specification_version >= _FIRST_WITH_PROGRAMS
    with _framework_errors("ML Program" if program else "a neural network model"):
        try:
            results = model.predict(data, state=state)
        except InputError as error:
            words = [_refused(feature, data.get(feature.name)) for feature in model.description.inputs]
            raise InputError(": ".join([*filter(None, words), error.message]), hint=error.hint) from error
        return {
            name: value.convert("RGBA") if getattr(value, "mode", "") == "RGB" else value
            for name, value in results.items()
        }


def _refused(feature: object, value: Any) -> str | None:
    """Apple's words for an array whose shape the model does not take; None when it does."""
    shape = getattr(value, "shape", None)
    if not isinstance(feature, ArrayFeature) or shape is None:
        return None
    if feature.shapes and shape not in (feature.shape, *feature.shapes):
        return f"MultiArray Shape ({' x '.join(map(str, shape))}) was not in enumerated set of allowed shapes"
    for axis, (size, (least, most)) in enumerate(zip(shape, feature.ranges, strict=False)):
        if size < least or (most is not None and size > most):
            high = -1 if most is None else most
            return f"Size ({size}) of dimension ({axis}) is not in allowed range ({least}..{high})"
    return None


def _folder(owner: object) -> Path:
    """A temporary folder that lives as long as `owner`."""
    folder = tempfile.mkdtemp(prefix="coremlops-bridge-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class _State:
    """A model's state; `MLState` of coremltools holds one. `values` is what `Model.make_state` made."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def read_state(self, name: str) -> Any:
        """A copy of one state's value; fp16 as fp32, as everything that coremltools gives."""
        import numpy as np

        value = self._value(name)
        return value.astype(np.float32 if value.dtype == np.float16 else value.dtype)

    def write_state(self, name: str, value: Any) -> None:
        """Overwrite one state with an array of its shape."""
        import numpy as np

        held = self._value(name)
        array = np.asarray(value)
        if array.shape != held.shape or array.dtype.kind not in "biuf":
            raise BridgeError(
                f"state {name!r}: expected numbers of the shape {list(held.shape)}, "
                f"got {array.dtype} of the shape {list(array.shape)}"
            )
        held[...] = array

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise BridgeError(f"no state {name!r}; the model has {', '.join(map(repr, self.values))}")
        return self.values[name]


class _MLModelAssetProxy:
    """A compiled model, on disk or from memory."""

    def __init__(self, source: Path) -> None:
        self.source = source


class _MLModelProxy:
    """A loaded model. `compute_units` and `optimization_hints` mean nothing here: it runs on the CPU."""

    def __init__(
        self,
        path: str,
        compute_units: str,
        function_name: str = "",
        optimization_hints: Mapping[str, str] | None = None,
        asset: _MLModelAssetProxy | None = None,
    ) -> None:
        from coremlops.bridge.compiled import SUFFIX, source_of
        from coremlops.runtime import load

        given = Path(path)
        self._asset = asset  # what lies in memory lives in a folder of its own as long as this
        self._compiled: Path | None = None
        with _framework_errors():
            if asset is not None:
                self._source = asset.source
            elif given.suffix == SUFFIX:
                self._source, self._compiled = source_of(given), given
            else:
                self._source = given
            begun = perf_counter_ns()
            self._model = load(self._source, precision=_precision, function_name=function_name or None)
            self._load_ns = perf_counter_ns() - begun
        self._predict_ns: int | None = None
        if self._source.is_file():
            self.get_compiled_model_path()  # coremltools deletes a temporary .mlmodel after this call

    def predict(self, data: Mapping[str, Any], state: _State | None = None) -> dict[str, Any]:
        """Features in, features out."""
        with self._timed():
            return framework_predict(self._model, data, None if state is None else state.values)

    def batchPredict(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """`predict` for each of several inputs."""
        with self._timed():
            return [framework_predict(self._model, data) for data in batch]

    def newState(self) -> _State:
        """A state of zeros."""
        with _framework_errors():
            return _State(self._model.make_state())

    def get_compiled_model_path(self) -> str:
        """A folder that can be copied and loaded as long as this object lives."""
        from coremlops.bridge.compiled import compile_into

        if self._compiled is None:
            with _framework_errors():
                self._compiled = compile_into(_folder(self), self._source)
        return str(self._compiled)

    def get_load_duration_in_nano_seconds(self) -> int:
        return self._load_ns

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        """None before the first prediction."""
        return self._predict_ns

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = perf_counter_ns()
        yield
        self._predict_ns = perf_counter_ns() - begun

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """The newest version that our reader knows."""
        from coremlops.model.description import MINIMUM_TARGETS

        return max(MINIMUM_TARGETS)

    @staticmethod
    def auto_set_specification_version(spec: Any) -> Any:
        """The model as it is: the version that it declares is one that reads it."""
        return spec

    @staticmethod
    def compileModel(path: str) -> str:
        """A compiled model in a temporary folder that is the caller's to delete."""
        from coremlops.bridge.compiled import compile_into

        with _framework_errors():
            return str(compile_into(Path(tempfile.mkdtemp(prefix="coremlops-compiled-")), Path(path)))

    @staticmethod
    def create_model_asset_from_path(path: str) -> Any:
        """`MLModelAsset` of a compiled model."""
        from coremltools.models.model import MLModelAsset

        from coremlops.bridge.compiled import source_of

        with _framework_errors():
            return MLModelAsset(_MLModelAssetProxy(source_of(Path(path))))

    @staticmethod
    def create_model_asset_from_memory(spec_data: bytes, blob_mapping: Mapping[str, bytes]) -> Any:
        """`MLModelAsset` of a serialised specification and its weights."""
        from coremltools.models.model import MLModelAsset

        from coremlops.bridge.compiled import write_model

        proxy = _MLModelAssetProxy(Path())
        with _framework_errors():
            proxy.source = write_model(_folder(proxy), spec_data, blob_mapping)
        return MLModelAsset(proxy)

    @staticmethod
    def get_available_compute_devices() -> list[Any]:
        """The CPU: what runs models here."""
        from coremltools.models.compute_device import MLCPUComputeDevice

        return [MLCPUComputeDevice(_MLCPUComputeDeviceProxy())]

    get_all_compute_devices = get_available_compute_devices

    @staticmethod
    def get_compute_plan(path: str, compute_units: str) -> Any:
        raise BridgeError(
            "a compute plan says where Apple's framework would run each operation; only it can say that",
            hint="ask on a Mac",
        )

    @staticmethod
    def get_model_structure(path: str) -> Any:
        raise BridgeError(
            "the structure of a compiled model is read by Apple's framework alone",
            hint="coremltools.utils.load_spec reads the model that it was compiled from",
        )


# coremltools asks for these with isinstance, and derives its proxies of remote devices from them.
class _MLComputePlanProxy: ...


class _MLCPUComputeDeviceProxy: ...


class _MLGPUComputeDeviceProxy: ...


class _MLNeuralEngineComputeDeviceProxy: ...
