"""Small ML Programs of each construct that the format has, made by coremltools' builder, to be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_programs(folder: Path) -> None:
    """Write those that are not there yet; a minute."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol, types

    def save(name: str, body: Any, target: Any, *inputs: Any) -> None:
        path = folder / f"made-{name}.mlpackage"
        if not path.exists():
            program = mb.program(input_specs=inputs, opset_version=target)(body)
            ct.convert(program, minimum_deployment_target=target).save(str(path))

    rng = np.random.default_rng(0)
    uint4, int4 = (types.nptype_from_builtin(types.string_to_builtin(name)) for name in ("uint4", "int4"))

    def branches(x: Any) -> Any:
        more = mb.greater(x=mb.reduce_sum(x=x), y=0.0)
        return mb.cond(pred=more, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.mul(x=x, y=-2.0))

    def loop(x: Any) -> Any:
        _, y = mb.while_loop(
            _cond=lambda i, a: mb.less(x=i, y=3),
            _body=lambda i, a: (mb.add(x=i, y=1), mb.add(x=a, y=x)),
            loop_vars=(0, x),
        )
        return y

    def lists(x: Any) -> Any:
        made = mb.make_list(init_length=2, dynamic_length=True, elem_shape=(4,), dtype="fp32")
        made = mb.list_write(ls=made, index=0, value=x)
        made = mb.list_write(ls=made, index=1, value=mb.exp(x=x))
        return mb.list_gather(ls=made, indices=[1, 0])

    def dynamic(x: Any) -> Any:
        sizes = mb.shape(x=x)
        grown = mb.fill(shape=sizes, value=2.0)
        tiled = mb.tile(x=mb.add(x=x, y=grown), reps=[1, 2])
        length = mb.slice_by_index(x=sizes, begin=[1], end=[2])
        return mb.reshape(x=tiled, shape=mb.concat(values=[[2], length], axis=0))

    def small_bits(x: Any) -> Any:
        table = np.arange(16, dtype=np.float16).reshape(1, 1, 16, 1)
        codes = rng.integers(0, 16, (3, 4)).astype(uint4)
        looked_up = mb.constexpr_lut_to_dense(indices=codes, lut=table)
        scale = np.array([[0.5], [1], [2]], np.float16)
        data = rng.integers(-8, 8, (3, 4)).astype(int4)
        shifted = mb.constexpr_blockwise_shift_scale(data=data, scale=scale)
        half = mb.cast(x=x, dtype="fp16")
        return mb.add(x=mb.linear(x=half, weight=looked_up), y=mb.linear(x=half, weight=shifted))

    def state(x: Any, sum: Any) -> Any:
        total = mb.add(x=mb.read_state(input=sum), y=mb.cast(x=x, dtype="fp16"))
        return mb.add(x=mb.coreml_update_state(state=sum, value=total), y=np.float16(1))

    def pictures(x: Any) -> Any:
        weight = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
        y = mb.conv(x=x, weight=weight, pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 2])
        y = mb.upsample_bilinear(x=y, scale_factor_height=2.0, scale_factor_width=2.0)
        y = mb.pad(x=y, pad=[0, 0, 1, 1], mode="reflect")
        return mb.max_pool(x=y, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")

    def picking(x: Any) -> Any:
        best, places = mb.topk(x=x, k=2, axis=-1)
        hot = mb.one_hot(indices=places, one_hot_vector_size=4)
        picked = mb.gather(x=x, indices=np.array([1, 0], np.int32), axis=0)
        windows = mb.sliding_windows(x=picked, axis=1, size=2)
        return best, mb.cast(x=hot, dtype="fp32"), mb.cumsum(x=windows, axis=2)

    def recurrent(x: Any) -> Any:
        wide = {"weight_ih": rng.normal(size=(8, 3)), "weight_hh": rng.normal(size=(8, 2))}
        zeros = np.zeros((1, 2), np.float32)
        return mb.lstm(
            x=x,
            initial_h=zeros,
            initial_c=zeros,
            output_sequence=True,
            **{name: value.astype(np.float32) for name, value in wide.items()},
        )

    def tensor(*shape: Any) -> Any:
        return mb.TensorSpec(shape=shape)

    new, old = ct.target.iOS18, ct.target.iOS17
    save("cond", branches, new, tensor(4))
    save("while", loop, new, tensor(4))
    save("lists", lists, new, tensor(4))
    save("dynamic", dynamic, new, tensor(1, get_new_symbol()))
    save("bits", small_bits, new, tensor(1, 4))
    save("state", state, new, tensor(2, 3), mb.StateTensorSpec((2, 3), dtype=types.fp16))
    save("pictures", pictures, old, tensor(1, 3, 8, 8))
    save("picking", picking, old, tensor(2, 4))
    save("recurrent", recurrent, old, tensor(5, 1, 3))
    target = folder / "made-functions.mlpackage"
    if not target.exists():
        both = ct.utils.MultiFunctionDescriptor()
        both.add_function(str(folder / "made-cond.mlpackage"), "main", "first")
        both.add_function(str(folder / "made-while.mlpackage"), "main", "second")
        both.default_function_name = "first"
        ct.utils.save_multifunction(both, str(target))
