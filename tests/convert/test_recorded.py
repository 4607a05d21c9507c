"""What a model's metadata says of its conversion."""

from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.convert import ConvertOptions, Input, Output
from coremlops.convert.recorded import OPTIONS, options_of, text_of
from coremlops.errors import InputError
from coremlops.model import ModelAsset
from tests.handmade import add_operation, program_spec, write_package


def _model(folder: Path, **metadata: str) -> ModelAsset:
    spec, block = program_spec()
    add_operation(block, "exp", "y", (2, 3), {"x": "x"}, "fp16")
    for key, value in metadata.items():
        spec.description.metadata.userDefined[key] = value
    return ModelAsset.open(write_package(folder / "net.mlpackage", spec))


def test_what_was_asked_for_is_read_again(tmp_path: Path) -> None:
    asked = ConvertOptions(
        inputs=(
            Input.of("x=image:BGR,24..48x16,from=a,scale=1/255,mean=0.4:0.5:0.6,std=2"),
            Input.of("t=tensor:int32,1x4|1x8"),
        ),
        outputs=(Output("p", post="softmax", axis=1, source="output_1"),),
        keep_float32=("exp_*", "type:softmax"),
        states=("*cache*",),
        precision="float32",
        capture="export",
    )
    found = options_of(_model(tmp_path, **{OPTIONS: text_of(asked)})).options
    for key in ("inputs", "outputs", "keep_float32", "states", "precision", "capture"):
        assert getattr(found, key) == getattr(asked, key), key
    assert text_of(ConvertOptions(author="ada", target="iOS17")) == ""


def test_what_another_converter_made_is_read_from_its_description(tmp_path: Path) -> None:
    asset = _model(tmp_path, team="vision")
    found = options_of(asset)
    assert [item.name for item in found.options.inputs] == [item.name for item in asset.description.inputs]
    assert found.options.inputs[0].shapes == ((2, 3),)
    assert found.options.metadata == {"team": "vision"}
    assert any("not converted by coremlops" in line for line in found.unknown)


@pytest.mark.parametrize("text", ["[", "[]", '{"weights": "/etc/passwd"}', '{"keep_float32": "/etc/passwd"}'])
def test_metadata_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"com\.coremlops\.options"):
        options_of(_model(tmp_path, **{OPTIONS: text}))
