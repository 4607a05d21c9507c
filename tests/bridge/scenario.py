"""Run in a fresh process: `python scenario.py bridge|coremltools` imports that one first, then tries all.

Prints one JSON object: what each part gave, or the exception that it raised.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

first = sys.argv[1]
if first == "coremltools":
    import coremltools as ct

import coremlops.bridge  # noqa: E402

installed = [coremlops.bridge.install(), coremlops.bridge.install(precision="typed")]
lazy = "coremltools" in sys.modules
import coremltools as ct  # noqa: E402
import numpy as np  # noqa: E402
from coremltools.converters.mil import mil  # noqa: E402
from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

PARTS: dict[str, Callable[[], Any]] = {}
FOLDER = Path(tempfile.mkdtemp())


def part(function: Callable[[], Any]) -> Callable[[], Any]:
    PARTS[function.__name__] = function
    return function


def shown(value: Any) -> list[Any]:
    return [type(value).__name__, str(value.dtype), list(value.shape), np.ravel(value).tolist()]


def half() -> Any:
    """x: fp16 [2] -> x + x as fp16 [2], and its sum as a scalar, in iOS16."""

    @mb.program(input_specs=[mb.TensorSpec((2,), dtype=mil.types.fp16)], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        return mb.add(x=x, y=x, name="twice"), mb.reduce_sum(x=x, name="sum")

    return ct.convert(program, minimum_deployment_target=ct.target.iOS16)


MODEL = half()
X = np.array([1.0, 2.5], np.float32)


@part
def values() -> Any:
    return {name: shown(value) for name, value in MODEL.predict({"x": X}).items()}


@part
def batch() -> Any:
    return [entry["twice"].tolist() for entry in MODEL.predict([{"x": X}, {"x": X + 1}])]


@part
def torch_and_lists() -> Any:
    import torch

    inputs: tuple[Any, ...] = ([3, 4], torch.tensor([1.0, 2.0]))
    return [MODEL.predict({"x": value})["twice"].tolist() for value in inputs]


@part
def durations() -> Any:
    fresh = half()
    before = fresh.last_predict_duration_in_nano_seconds
    fresh.predict({"x": X})
    return [before, fresh.load_duration_in_nano_seconds > 0, fresh.last_predict_duration_in_nano_seconds > 0]


@part
def saved() -> Any:
    MODEL.save(str(FOLDER / "saved.mlpackage"))
    return ct.models.MLModel(str(FOLDER / "saved.mlpackage")).predict({"x": X})["twice"].tolist()


@part
def compiled_path() -> Any:
    fresh = half()
    copied = FOLDER / "copied.mlmodelc"
    shutil.copytree(fresh.get_compiled_model_path(), copied)
    path = Path(fresh.get_compiled_model_path())
    del fresh
    answer = ct.models.CompiledMLModel(str(copied)).predict({"x": X})["twice"].tolist()
    return [answer, path.suffix, path.exists()]


@part
def compile_model() -> Any:
    MODEL.save(str(FOLDER / "tocompile.mlpackage"))
    place = str(FOLDER / "named.mlmodelc")
    given = ct.models.utils.compile_model(str(FOLDER / "tocompile.mlpackage"), place)
    other = ct.models.utils.compile_model(str(FOLDER / "tocompile.mlpackage"))
    loaded = ct.models.CompiledMLModel(other, ct.ComputeUnit.CPU_AND_GPU)
    return [given == place, other.endswith(".mlmodelc"), loaded.predict({"x": X})["twice"].tolist()]


@part
def asset() -> Any:
    made = ct.models.model.MLModelAsset.from_memory(spec_data=MODEL.get_spec().SerializeToString())
    MODEL.save(str(FOLDER / "asset.mlpackage"))
    path = ct.models.utils.compile_model(str(FOLDER / "asset.mlpackage"))
    assets = (made, ct.models.model.MLModelAsset.from_path(path))
    return [ct.models.CompiledMLModel.from_asset(a).predict({"x": X})["twice"].tolist() for a in assets]


@part
def asset_with_weights() -> Any:
    @mb.program(input_specs=[mb.TensorSpec((2, 3))])
    def program(x: Any) -> Any:
        return mb.linear(x=x, weight=np.ones((40, 3), np.float32), name="y")

    model = ct.convert(program, compute_precision=ct.precision.FLOAT32)
    blob = (Path(model.weights_dir) / "weight.bin").read_bytes()
    made = ct.models.model.MLModelAsset.from_memory(
        spec_data=model.get_spec().SerializeToString(), blob_mapping={"weights/weight.bin": blob}
    )
    compiled = ct.models.CompiledMLModel.from_asset(made)
    del made
    return float(compiled.predict({"x": np.ones((2, 3), np.float32)})["y"].sum())


@part
def functions() -> Any:
    for factor in (2, 3):

        @mb.program(input_specs=[mb.TensorSpec((2,))], opset_version=ct.target.iOS18)
        def program(x: Any) -> Any:
            return mb.mul(x=x, y=np.float32(factor), name="y")  # noqa: B023  runs at once

        ct.convert(program, minimum_deployment_target=ct.target.iOS18).save(
            str(FOLDER / f"{factor}.mlpackage")
        )
    descriptor = ct.utils.MultiFunctionDescriptor()
    descriptor.add_function(str(FOLDER / "2.mlpackage"), "main", "double")
    descriptor.add_function(str(FOLDER / "3.mlpackage"), "main", "triple")
    descriptor.default_function_name = "double"
    ct.utils.save_multifunction(descriptor, str(FOLDER / "both.mlpackage"))
    both = str(FOLDER / "both.mlpackage")
    return [
        ct.models.MLModel(both, function_name=name).predict({"x": X})["y"].tolist()
        for name in (None, "double", "triple")
    ]


@part
def states() -> Any:
    @mb.program(
        input_specs=[
            mb.TensorSpec((2,), dtype=mil.types.fp16),
            mb.StateTensorSpec((2,), dtype=mil.types.fp16),
        ],
        opset_version=ct.target.iOS18,
    )
    def program(x: Any, total: Any) -> Any:
        held = mb.read_state(input=total)
        return mb.identity(x=mb.coreml_update_state(state=total, value=mb.add(x=held, y=x)), name="y")

    model = ct.convert(program, minimum_deployment_target=ct.target.iOS18)
    one, other = model.make_state(), model.make_state()
    ran = [model.predict({"x": X}, state=one)["y"].tolist() for _ in range(2)]
    read = shown(one.read_state("total"))
    one.write_state("total", np.array([10, 20]))
    ran.append(model.predict({"x": X}, state=one)["y"].tolist())
    return [ran, read, other.read_state("total").tolist()]


@part
def image() -> Any:
    from PIL import Image

    @mb.program(input_specs=[mb.TensorSpec((1, 3, 3, 2))])
    def program(x: Any) -> Any:
        return mb.add(x=x, y=x, name="y")

    kind = ct.ImageType("x", shape=(1, 3, 3, 2), color_layout=ct.colorlayout.RGB)
    made = ct.convert(program, inputs=[kind], minimum_deployment_target=ct.target.iOS16)
    spec = made.get_spec()
    spec.description.output[0].type.CopyFrom(spec.description.input[0].type)
    model = ct.models.MLModel(spec, weights_dir=made.weights_dir)
    given = Image.new("RGB", (2, 3), (10, 20, 30))
    answer = model.predict({"x": given})["y"]
    return [answer.mode, list(answer.size), given.getpixel((1, 2)), answer.getpixel((1, 2))]


@part
def classifier() -> Any:
    @mb.program(input_specs=[mb.TensorSpec((2,))])
    def program(x: Any) -> Any:
        return mb.identity(x=x, name="scores")

    model = ct.convert(
        program,
        classifier_config=ct.ClassifierConfig(["a", "b"], "label", "scores"),
        compute_precision=ct.precision.FLOAT32,
    )
    return model.predict({"x": np.array([0.25, 0.75], np.float32)})


@part
def a_wrong_input() -> Any:
    return MODEL.predict({"x": np.zeros((3, 3), np.float32)})


def _relu(kind: ct.TensorType) -> Any:
    @mb.program(input_specs=[mb.TensorSpec((2, mil.get_new_symbol()))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        return mb.relu(x=x)

    return ct.convert(program, inputs=[kind], minimum_deployment_target=ct.target.iOS16)


@part
def a_size_out_of_range() -> Any:
    model = _relu(ct.TensorType("x", shape=(2, ct.RangeDim(3, 5))))
    return model.predict({"x": np.zeros((2, 99), np.float32)})


@part
def a_shape_not_enumerated() -> Any:
    model = _relu(ct.TensorType("x", shape=ct.EnumeratedShapes([(2, 3), (2, 5)])))
    return model.predict({"x": np.zeros((2, 4), np.float32)})


@part
def an_index_out_of_range() -> Any:
    specs = [mb.TensorSpec((3,)), mb.TensorSpec((1,), dtype=mil.types.int32)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS17)
    def program(x: Any, i: Any) -> Any:
        return mb.gather(x=x, indices=i, validate_indices=True)

    model = ct.convert(program, minimum_deployment_target=ct.target.iOS17)
    return model.predict({"x": np.zeros(3, np.float32), "i": np.array([9], np.int32)})


@part
def a_wrong_state() -> Any:
    return ct.models.model.MLState(coremlops.bridge.standin._State({})).read_state("nothing")


@part
def a_state_of_another_shape() -> Any:
    state = ct.models.model.MLState(coremlops.bridge.standin._State({"s": np.zeros(2, np.float16)}))
    return state.write_state("s", np.zeros(3))


@part
def a_blob_outside() -> Any:
    return ct.models.model.MLModelAsset.from_memory(spec_data=b"", blob_mapping={"../weight.bin": b""})


@part
def no_compiled_model() -> Any:
    return ct.models.CompiledMLModel("/nowhere.mlmodelc")


@part
def a_compute_plan() -> Any:
    return ct.models.compute_plan.MLComputePlan.load_from_path(MODEL.get_compiled_model_path())


@part
def a_model_structure() -> Any:
    return ct.models.compute_plan.MLModelStructure.load_from_path(MODEL.get_compiled_model_path())


@part
def devices() -> Any:
    found = [
        *ct.models.MLModel.get_available_compute_devices(),
        *ct.models.compute_device.MLComputeDevice.get_all_compute_devices(),
    ]
    return [type(device).__name__ for device in found]


@part
def a_model_that_cannot_run() -> Any:
    spec = ct.proto.Model_pb2.Model()
    spec.specificationVersion = 3
    spec.visionFeaturePrint.scene.version = 1  # inside Apple's systems alone
    for feature, kind in ((spec.description.input.add(), "image"), (spec.description.output.add(), "array")):
        feature.name = kind
        if kind == "image":
            feature.type.imageType.width = feature.type.imageType.height = 299
            feature.type.imageType.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.RGB
        else:
            feature.type.multiArrayType.shape.append(2048)
            feature.type.multiArrayType.dataType = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ct.models.MLModel(spec)
    from PIL import Image

    try:
        model.predict({"image": Image.new("RGB", (299, 299))})
    except RuntimeError as error:
        return [[warning.category.__name__ for warning in caught], type(error).__name__, str(error)]
    return None


@part
def the_truth() -> Any:
    return [ct.utils._is_macos(), sys.platform == "darwin"]


results: dict[str, Any] = {"installed": installed, "lazy": lazy}
for name, run in PARTS.items():
    try:
        results[name] = run()
    except Exception as error:
        results[name] = [type(error).__name__, isinstance(error, RuntimeError), str(error)]
shutil.rmtree(FOLDER)
print(json.dumps(results))
