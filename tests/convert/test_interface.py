"""Inputs and outputs in one line, and what must be refused."""

from __future__ import annotations

import pytest

from coremlops.convert import ConvertOptions, Input, Output
from coremlops.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", Input("x")),
        ("x=1x3x8..16x8", Input("x", shapes=((1, 3, (8, 16), 8),))),
        ("x=tensor:float16,1x128|1x256", Input("x", dtype="float16", shapes=((1, 128), (1, 256)))),
        ("ids=tensor:int32,from=tokens", Input("ids", dtype="int32", source="tokens")),
        (
            "image=image:RGB,320x224,scale=1/255,bias=-1:-2:-3",
            Input("image", type="image", shapes=((1, 3, 224, 320),), scale=1 / 255, bias=(-1, -2, -3)),
        ),
        (
            "g=image:GRAYSCALE,8..16x8,mean=0.5,std=0.25",
            Input(
                "g", type="image", color="GRAYSCALE", shapes=((1, 1, 8, (8, 16)),), mean=(0.5,), std=(0.25,)
            ),
        ),
    ],
)
def test_an_input_in_one_line(text: str, expected: Input) -> None:
    assert Input.of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p=tensor,post=softmax", Output("p", post="softmax")),
        ("p=post=softmax", Output("p", post="softmax")),
        (
            "m=image:GRAYSCALE,scale=255,bias=1",
            Output("m", type="image", color="GRAYSCALE", scale=255, bias=1),
        ),
        ("y=tensor:float16,from=output_1,axis=1", Output("y", dtype="float16", source="output_1", axis=1)),
    ],
)
def test_an_output_in_one_line(text: str, expected: Output) -> None:
    assert Output.of(text) == expected


def test_an_item_of_a_file_says_the_same() -> None:
    item = {
        "name": "x",
        "type": "image",
        "shape": [1, 3, [8, 16], "8..16"],
        "scale": "1/255",
        "std": [1, 2, 3],
    }
    assert Input.of(item) == Input.of("x=image:RGB,8..16x8..16,scale=1/255,std=1:2:3")
    assert Input.of({"name": "x", "shapes": [[1, 8], [1, 16]]}).shapes == ((1, 8), (1, 16))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "x=tensr:int32",
            "input x: type: one of tensor, image expected, got 'tensr'",
            "did you mean tensor?",
        ),
        ("x=tensor,scal=3", "inputs: unknown key 'scal'", "did you mean scale?"),
        ("x=tensor,shape=1x8,1x9", "shape is said twice", ""),
        ("x=tensor,1x8..", "a range needs its largest size", "write 1..512"),
        ("x=tensor,1x8..4", "a size or a range of 1 to 16777216 expected, got 8..4", ""),
        ("x=tensor,1x0", "got 0..0", ""),
        ("x=tensor,1xn", "a whole number expected, got 'n'", ""),
        ("x=tensor,1x8..9|1x4", "either listed or have ranges", ""),
        ("x y=tensor", "a name of letters, digits and _ expected", ""),
        ("x=image:RBG", "one of RGB, BGR, GRAYSCALE, GRAYSCALE_FLOAT16 expected, got 'RBG'", "did you mean"),
        ("x=image:RGB,1x1x8x8", "an image of RGB is [1, 3, height, width], got [1, 1, 8, 8]", ""),
        ("x=image:RGB,bias=1:2", "bias: 3 numbers expected for RGB, got 2", ""),
        ("x=tensor,scale=0", "not 0 expected", ""),
        ("x=tensor,scale=1/0", "a number such as 0.5 or 1/255 expected, got '1/0'", ""),
        ("x=tensor,std=0", "std: no 0 expected", ""),
        ("x=tensor,scale=nan", "a number such as 0.5", ""),
    ],
)
def test_what_an_input_cannot_be(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Input.of(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_what_an_output_cannot_be() -> None:
    with pytest.raises(UsageError, match="post: one of softmax, sigmoid, argmax expected, got 'sofmax'"):
        Output.of("p=tensor,post=sofmax")
    with pytest.raises(UsageError, match="argmax gives whole numbers"):
        Output.of("p=image:RGB,post=argmax")


def test_a_name_stands_once() -> None:
    with pytest.raises(UsageError, match="inputs: each name once expected, got twice: x"):
        ConvertOptions(inputs=(Input("x"), Input("x")))
