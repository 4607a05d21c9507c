"""Core ML models in MLflow: log one, load one, predict with it on Linux.

    >>> from coremlops.tracking import log_model, load_model                       # doctest: +SKIP
    >>> log_model(Path("faces.mlpackage"), "faces", run_id=run.info.run_id)        # doctest: +SKIP
    >>> load_model("models:/faces@staging").predict({"image": photo})              # doctest: +SKIP
    >>> mlflow.pyfunc.load_model("models:/faces@staging").predict(["photo.jpg"])   # doctest: +SKIP

A logged model is a folder with `MLmodel`, the Core ML file as it is, and requirements that name coremlops
alone (MLflow would infer them by loading the model and listing all that is imported). It has two flavors:
`coreml`, which says where the file is and what it is, and `python_function`, which runs it through
`coremlops.load`. `save_model` has the shape that `mlflow.models.Model.log(flavor=...)` expects.

What `pyfunc` predicts on, when the model takes a picture: a table with a column named like the input (or
one column) of paths, bytes, PIL images or uint8 arrays; a list of such pictures; one picture; or
`{"image": picture or list}`. Pictures are prepared as the model's metadata says. Other models take a table
or a dictionary of their inputs. The answer is a table, one row an input: the model's outputs, in a
classifier `classLabel` and the dictionary of probabilities.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops import __version__
from coremlops.errors import InputError, ModelFormatError
from coremlops.tracking.store import connect, import_mlflow, metric_name, trouble

if TYPE_CHECKING:
    from mlflow.models.model import Model as MlflowModel
    from mlflow.models.model import ModelInfo

    from coremlops.runtime import Model

FLAVOR_NAME = "coreml"
REQUIREMENTS = (f"coremlops=={__version__}",)
_SUFFIXES = (".mlpackage", ".mlmodel")


def save_model(
    model: Path | str,
    path: Path | str,
    mlflow_model: MlflowModel | None = None,
    *,
    precision: str = "typed",
    digest: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    signature: Any = None,
    input_example: Any = None,
) -> None:
    """Write a Core ML file as an MLflow model into the folder `path`.

    `precision` is that of predictions through `pyfunc` (see `coremlops.load`). Raises `ModelFormatError` for
    a path that is no `.mlpackage` or `.mlmodel`.
    """
    import_mlflow()
    from mlflow import pyfunc
    from mlflow.models import Model as MlflowModel
    from mlflow.utils.environment import _PythonEnv

    model, path = Path(model), Path(path)
    if model.suffix not in _SUFFIXES or not model.exists():
        raise ModelFormatError(f"expected a .mlpackage or .mlmodel, got {model}")
    path.mkdir(parents=True, exist_ok=True)
    data = f"model{model.suffix}"
    if model.is_dir():
        shutil.copytree(model, path / data)
    else:
        shutil.copyfile(model, path / data)
    mlflow_model = MlflowModel() if mlflow_model is None else mlflow_model
    if signature is not None:
        mlflow_model.signature = signature
    if metadata is not None:
        mlflow_model.metadata = dict(metadata)
    if input_example is not None:
        from mlflow.models.utils import _save_example

        _save_example(mlflow_model, input_example, str(path))
    mlflow_model.add_flavor(
        FLAVOR_NAME, data=data, digest=digest, precision=precision, coremlops_version=__version__
    )
    pyfunc.add_to_model(
        mlflow_model, loader_module="coremlops.tracking.flavor", data=data, python_env="python_env.yaml"
    )
    mlflow_model.model_size_bytes = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    (path / "requirements.txt").write_text("".join(f"{line}\n" for line in REQUIREMENTS))
    _PythonEnv(python=_python_version(), build_dependencies=[], dependencies=["-r requirements.txt"]).to_yaml(
        str(path / "python_env.yaml")
    )
    mlflow_model.save(str(path / "MLmodel"))


def log_model(
    model: Path | str,
    name: str,
    *,
    run_id: str | None = None,
    registered_model_name: str | None = None,
    precision: str = "typed",
    digest: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    dataset: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    signature: Any = None,
    input_example: Any = None,
    tracking_uri: str | None = None,
) -> ModelInfo:
    """Log a Core ML file as a LoggedModel of a run, and register it if `registered_model_name` is given.

    `run_id`: MLflow's id of the run; the active run if None. `digest`: the model's digest, computed if None.
    `dataset`: `{"name", "digest"}` of what `metrics` were measured on. `tracking_uri`: MLflow's current one
    if None. Raises `ModelFormatError` for what is no Core ML file and `TrackingError` when MLflow refuses.
    """
    mlflow = import_mlflow()
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
    from mlflow.models import Model as MlflowModel

    model = Path(model)
    if digest is None:
        from coremlops.model import model_digest

        digest = model_digest(model)
    uri = str(tracking_uri or mlflow.get_tracking_uri())
    if run_id is None:
        active = mlflow.active_run() or mlflow.start_run()
        run_id = str(active.info.run_id)
    client = connect(uri)
    with trouble(f"cannot log the model {name!r}"):
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(
            experiment,
            name=name,
            source_run_id=run_id,
            tags={"coremlops.digest": digest, **(tags or {})},
            params={k: str(v) for k, v in (params or {}).items()},
            model_type="coreml",
        )
        status = LoggedModelStatus.FAILED
        try:
            with tempfile.TemporaryDirectory(prefix="coremlops-") as folder:
                mlflow_model = MlflowModel(
                    artifact_path=logged.artifact_location,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                    run_id=run_id,
                )
                save_model(
                    model,
                    folder,
                    mlflow_model,
                    precision=precision,
                    digest=digest,
                    metadata=metadata,
                    signature=signature,
                    input_example=input_example,
                )
                client.log_model_artifacts(logged.model_id, folder)
            status = LoggedModelStatus.READY
        finally:
            logged = client.finalize_logged_model(logged.model_id, status)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        if metrics:
            now = int(logged.last_updated_timestamp)
            about: dict[str, Any] = {"model_id": logged.model_id, "run_id": run_id}
            if dataset:
                about |= {"dataset_name": dataset["name"][:500], "dataset_digest": dataset["digest"][:36]}
            client.log_batch(
                run_id,
                metrics=[Metric(metric_name(k), float(v), now, 0, **about) for k, v in metrics.items()],
            )
        info = mlflow_model.get_model_info(logged)
        if registered_model_name is not None:
            from coremlops.tracking.registry import create_version

            info.registered_model_version = create_version(
                client, uri, registered_model_name, logged.model_id, run_id, digest, tags or {}
            )
    return info


def load_model(model_uri: str, *, precision: str | None = None) -> Model:
    """The Core ML model behind `models:/name@alias`, `models:/name/1` or a folder, ready to run here.

    `precision`: that with which it was logged if None. Raises `TrackingError` when it cannot be fetched.
    """
    mlflow = import_mlflow()
    with trouble(f"cannot fetch {model_uri}"):
        folder = Path(mlflow.artifacts.download_artifacts(model_uri))
    return _load(folder, precision)


def _load(folder: Path, precision: str | None) -> Model:
    from mlflow.models import Model as MlflowModel

    from coremlops.runtime import load

    flavor = MlflowModel.load(str(folder)).flavors.get(FLAVOR_NAME)
    if flavor is None:
        raise ModelFormatError(f"{folder} has no flavor {FLAVOR_NAME!r}: it was not logged by coremlops")
    data = str(flavor["data"])
    if data not in {f"model{suffix}" for suffix in _SUFFIXES}:
        raise ModelFormatError(
            f"the flavor {FLAVOR_NAME!r} names {data!r}, expected model.mlpackage or model.mlmodel"
        )
    return load(folder / data, precision=precision or flavor.get("precision") or "typed")


def _load_pyfunc(path: str) -> Predictor:
    """What `mlflow.pyfunc.load_model` calls, with the path of the Core ML file."""
    return Predictor(_load(Path(path).parent, None))


class Predictor:
    """Inputs in, a table of answers out."""

    def __init__(self, model: Model) -> None:
        from coremlops.model import ImageFeature

        self.model = model
        images = [f.name for f in model.description.inputs if isinstance(f, ImageFeature)]
        self._image = images[0] if len(images) == len(model.description.inputs) == 1 else None

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """One row for each input: see the module. `params["image_option"]` goes before the metadata's.

        Raises `InputError` for what is no input of the model.
        """
        import pandas  # type: ignore[import-untyped, unused-ignore]

        option = str((params or {}).get("image_option", "metadata"))
        if self._image is None:
            rows = _records(model_input)
        else:
            rows = [{self._image: _picture(value)} for value in _pictures(model_input, self._image)]
        return pandas.DataFrame([self.model.predict(row, image_option=option) for row in rows])


def _records(model_input: Any) -> list[dict[str, Any]]:
    """The rows of a table, or one dictionary of inputs, for a model that takes more than a picture."""
    if hasattr(model_input, "to_dict"):
        return [{str(k): v for k, v in row.items()} for row in model_input.to_dict("records")]
    if isinstance(model_input, Mapping):
        return [dict(model_input)]
    raise InputError(f"expected a table or a dictionary of inputs, got {type(model_input).__name__}")


def _pictures(model_input: Any, name: str) -> Iterable[Any]:
    columns = getattr(model_input, "columns", None)
    if columns is not None:
        if name in columns:
            return list(model_input[name])
        if len(columns) == 1:
            return list(model_input[columns[0]])
        raise InputError(f"expected a column {name!r}, got {', '.join(map(str, columns))}")
    if isinstance(model_input, Mapping):
        if set(model_input) != {name}:
            raise InputError(f"expected {{{name!r}: picture}}, got {', '.join(map(repr, model_input))}")
        return _pictures(model_input[name], name)
    if isinstance(model_input, (list, tuple)):
        return model_input
    # A stack of pictures: uint8 [pictures, height, width, channels]; or a column on its own.
    if getattr(model_input, "ndim", None) == 4 or type(model_input).__name__ == "Series":
        return list(model_input)
    return [model_input]


def _picture(value: Any) -> Any:
    if isinstance(value, (str, Path)):
        from coremlops.runtime import read_image

        return read_image(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decoded(bytes(value))
    return value


def _decoded(data: bytes) -> Any:
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{len(data)} bytes cannot be read as a picture: {error}") from error
    return picture


def _python_version() -> str:
    import platform

    return platform.python_version()
