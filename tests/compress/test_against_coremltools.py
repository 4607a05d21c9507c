"""The same setting through coremltools: the same operations and layout, and it reads back what we wrote."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from coremlops.compress import Recipe, Setting, compress, encode, weights_of
from coremlops.compress.targets import CHANGED, TARGETS
from coremlops.dialects.mil.reader import DTYPES
from coremlops.model import ModelAsset
from tests.compress.fixtures import network, weights

Array: TypeAlias = np.ndarray[Any, Any]

pytest.importorskip("coremltools")


def config(kind: str, **options: Any) -> Any:
    import coremltools.optimize.coreml as optimize

    return optimize.OptimizationConfig(global_config=getattr(optimize, kind)(**options))


def theirs(model: Path, out: Path, text: str) -> Path:
    """What coremltools makes of the model with a setting of ours."""
    import coremltools as ct
    import coremltools.optimize.coreml as optimize

    setting = Setting.parse(text)
    made = ct.models.MLModel(str(model), skip_model_load=True)
    joint = bool(setting.sparsity) and setting.method != "prune"
    if setting.sparsity:
        made = optimize.prune_weights(
            made, config("OpMagnitudePrunerConfig", target_sparsity=setting.sparsity)
        )
    if setting.method == "palettize":
        grouped = {"granularity": "per_grouped_channel", "group_size": setting.group} if setting.group else {}
        options = config("OpPalettizerConfig", mode=setting.how, nbits=setting.bits, **grouped)
        made = optimize.palettize_weights(made, options, joint_compression=joint)
        if setting.lut_bits:
            options = config("OpLinearQuantizerConfig", granularity="per_tensor", weight_threshold=0)
            made = optimize.linear_quantize_weights(made, options, joint_compression=True)
    if setting.method == "quantize":
        sort = {-1: "per_tensor", 0: "per_channel"}.get(setting.block, "per_block")
        options = config(
            "OpLinearQuantizerConfig",
            mode="linear_symmetric" if setting.how == "symmetric" else "linear",
            dtype=f"int{setting.bits}",
            granularity=sort,
            **({"block_size": setting.block} if setting.block > 0 else {}),
        )
        made = optimize.linear_quantize_weights(made, options, joint_compression=joint)
    made.save(str(out))
    return out


def layout(model: Path) -> list[Any]:
    """Every constexpr operation: its type, and dtype, shape and place of each input and output; no names."""
    asset = ModelAsset.open(model)
    function = asset.spec.mlProgram.functions["main"]

    def type_of(message: Any) -> tuple[str, tuple[int, ...]]:
        tensor = message.tensorType
        return DTYPES[tensor.dataType], tuple(axis.constant.size for axis in tensor.dimensions)

    def stored(value: Any) -> Any:
        if value.WhichOneof("value") == "immediateValue":
            return (*type_of(value.type), value.immediateValue.tensor.WhichOneof("value"))
        record = asset.blobs(value.blobFileValue.fileName).record(value.blobFileValue.offset)
        return (*type_of(value.type), record.dtype, record.bytes, record.padding_bits)

    found = []
    for operation in function.block_specializations[function.opset].operations:
        if operation.type.startswith("constexpr_"):
            inputs = {
                key: [
                    stored(argument.value) if argument.WhichOneof("binding") == "value" else "another"
                    for argument in operation.inputs[key].arguments
                ]
                for key in operation.inputs
            }
            attributes = {
                key: stored(operation.attributes[key]) for key in operation.attributes if key != "name"
            }
            outputs = [type_of(output.type) for output in operation.outputs]
            found.append((operation.type, inputs, attributes, outputs))
    return found


SETTINGS = [
    ("palettize:4", 7),
    ("palettize:1", 7),
    ("quantize:8", 7),
    ("quantize:8:block=-1", 7),
    ("quantize:8:mode=asymmetric", 7),
    ("prune:0.5", 7),
    ("palettize:4", 9),
    ("palettize:3:group=16", 9),
    ("palettize:8", 9),
    ("palettize:2:mode=uniform", 9),
    ("palettize:4:lut_bits=8:group=16", 9),
    ("palettize:4:sparsity=0.5", 9),
    ("quantize:8", 9),
    ("quantize:8:block=-1", 9),
    ("quantize:8:mode=asymmetric", 9),
    ("quantize:4:block=16", 9),
    ("quantize:4:block=16:mode=asymmetric", 9),
    ("quantize:8:sparsity=0.5", 9),
    ("prune:0.5", 9),
]


@pytest.mark.parametrize(("text", "version"), SETTINGS)
def test_the_same_operations_and_layout(tmp_path: Path, text: str, version: int) -> None:
    model = network(tmp_path / "m.mlpackage", version=version)
    ours = compress(model, tmp_path / "ours.mlpackage", Recipe(Setting.parse(text))).path
    mine, other = layout(ours), layout(theirs(model, tmp_path / "theirs.mlpackage", text))
    if "sparsity" in text or text.startswith("prune"):
        # Theirs zeroes what is at most a percentile, so the two may differ by a value of the same size.
        mine, other = (
            [[entry[0], *map(sorted, entry[1:3])] for entry in mine],
            [[entry[0], *map(sorted, entry[1:3])] for entry in other],
        )
    if text == "quantize:8:sparsity=0.5":  # one of ours takes the mask from the operation before it
        assert [entry[0] for entry in mine] == [entry[0] for entry in other]
        return
    assert mine == other


@pytest.mark.parametrize(("text", "version"), SETTINGS)
def test_coremltools_decodes_the_values_that_we_report(tmp_path: Path, text: str, version: int) -> None:
    import coremltools as ct
    from coremltools.optimize.coreml import decompress_weights

    model = network(tmp_path / "m.mlpackage", version=version)
    setting = Setting.parse(text)
    made = compress(model, tmp_path / "ours.mlpackage", Recipe(setting)).path
    plain = decompress_weights(ct.models.MLModel(str(made), skip_model_load=True))
    plain.save(str(tmp_path / "plain.mlpackage"))
    asset = ModelAsset.open(tmp_path / "plain.mlpackage")
    for before, after in zip(weights_of(model), weights_of(asset), strict=True):
        expected = encode(weights()[before.name], setting, before).dense
        value = next(
            operation.attributes["val"].blobFileValue
            for operation in asset.spec.mlProgram.functions["main"]
            .block_specializations[f"CoreML{version - 1}"]
            .operations
            if operation.outputs[0].name == after.name
        )
        found = asset.blobs(value.fileName).read(value.offset).reshape(before.shape)
        np.testing.assert_allclose(
            found.astype(np.float32), expected.astype(np.float32), rtol=2e-3, atol=1e-7
        )


@pytest.mark.parametrize("text", ["palettize:4:group=16", "palettize:2", "quantize:8", "quantize:4:block=16"])
def test_the_error_is_no_larger_than_theirs(tmp_path: Path, text: str) -> None:
    import coremltools as ct
    from coremltools.optimize.coreml import decompress_weights

    model = network(tmp_path / "m.mlpackage")
    made = compress(model, tmp_path / "ours.mlpackage", Recipe(Setting.parse(text)))
    other = theirs(model, tmp_path / "theirs.mlpackage", text)
    decompress_weights(ct.models.MLModel(str(other), skip_model_load=True)).save(
        str(tmp_path / "plain.mlpackage")
    )
    asset = ModelAsset.open(tmp_path / "plain.mlpackage")
    held = weights()
    for mine, weight in zip(made.weights, weights_of(asset), strict=True):
        blob = next(iter(_values(asset, weight.name)))
        error = np.square(blob.astype(np.float64) - held[mine.name].astype(np.float64).ravel()).mean()
        assert mine.mean_squared_error <= error * 1.0001


def _values(asset: ModelAsset, name: str) -> Any:
    function = asset.spec.mlProgram.functions["main"]
    for operation in function.block_specializations[function.opset].operations:
        if operation.outputs[0].name == name:
            value = operation.attributes["val"].blobFileValue
            yield asset.blobs(value.fileName).read(value.offset)


def test_operations_that_change_their_inputs_are_all_known() -> None:
    """`CHANGED` against coremltools' registry: an input that is gone, or a new one that must be given."""
    from coremltools.converters.mil._deployment_compatibility import AvailableTarget
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    def inputs(versions: Any, name: str) -> Any:
        known = [entry for entry in versions if entry.value <= AvailableTarget[name].value]
        return versions[max(known, key=lambda entry: entry.value)].input_spec.input_types if known else None

    names = [name for name in TARGETS if name in AvailableTarget.__members__]
    found: dict[int, set[str]] = {}
    for older, newer in itertools.pairwise(names):
        for operation, versions in SSAOpRegistry.core_ops.items():
            before, after = inputs(versions, older), inputs(versions, newer)
            if before is None or after is before:
                continue
            required = {key for key, entry in after.items() if key not in before and not entry.optional}
            if set(before) - set(after) or required:
                found.setdefault(TARGETS[newer], set()).add(operation)
    assert found == {version: set(entries) for version, entries in CHANGED.items()}
