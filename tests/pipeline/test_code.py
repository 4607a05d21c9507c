"""What a step imports is part of its key: versions, requirements, editable code, modules on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coremlops.pipeline import load_project, run
from coremlops.pipeline.code import CodeReader
from coremlops.pipeline.distributions import installed
from coremlops.pipeline.imports import Modules, imported_names
from coremlops.pipeline.key import Ingredients
from coremlops.pipeline.tree import TreeCache
from tests.pipeline.conftest import Tiny


def install(site: Path, name: str, version: str, requires: tuple[str, ...] = (), provides: str = "") -> None:
    """What pip leaves of a distribution with one package."""
    import shutil

    for old in site.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(old)
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {item}" for item in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n\nRequires-Dist: not-a-header\n")
    (info / "RECORD").write_text(f"{provides or name}/__init__.py,,\n{info.name}/METADATA,,\n")


def versions(tiny: Tiny, site: Path, step: str = "b") -> dict[str, str]:
    project = load_project(tiny.root)
    ready = next(item for item in project.ready().steps if item.name == step)
    reader = CodeReader(project, TreeCache(project.own / "cache" / "trees"), [str(site)])
    found = reader.distributions(ready)
    reader.save()
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    install(folder, "Alpha", "1.0", ("beta-lib[fast]>=1 ; python_version > '3'", "unused; extra == 'dev'"))
    install(folder, "beta.lib", "2.0", ("gamma; extra == 'fast'", "delta; extra == 'slow'"), "beta")
    for name in ("gamma", "delta", "unused", "other"):
        install(folder, name, "0.1")
    return folder


def test_imports_are_followed_through_requirements(tiny: Tiny, site: Path) -> None:
    (tiny.root / "b" / "src").mkdir()
    (tiny.root / "b" / "src" / "main.py").write_text("def f():\n    import Alpha.part\n")
    assert versions(tiny, site) == {"alpha": "1.0", "beta-lib": "2.0", "gamma": "0.1"}
    assert versions(tiny, site, "a") == {}


def test_an_upgrade_of_what_is_imported_counts_and_of_others_does_not(tiny: Tiny, site: Path) -> None:
    (tiny.root / "b" / "main.py").write_text("import Alpha\n")
    before = versions(tiny, site)
    install(site, "other", "9")
    install(site, "delta", "9")
    assert versions(tiny, site) == before
    install(site, "gamma", "0.2")
    assert versions(tiny, site) == {**before, "gamma": "0.2"}


def test_a_missing_module_counts_until_it_is_there(tiny: Tiny, site: Path) -> None:
    (tiny.root / "b" / "main.py").write_text("import later, os, helper, pack\nfrom . import x\n")
    (tiny.root / "b" / "helper.py").write_text("")
    (tiny.root / "b" / "pack").mkdir()
    (tiny.root / "b" / "pack" / "__init__.py").write_text("")
    assert versions(tiny, site) == {"module later": "not installed"}
    install(site, "later", "1")
    assert versions(tiny, site) == {"later": "1"}


def test_shared_code_imports_for_every_step(tiny: Tiny, site: Path) -> None:
    (tiny.root / "shared").mkdir()
    (tiny.root / "shared" / "x.py").write_text("import other")
    tiny.head = "code: [shared]\n"
    tiny.save()
    (tiny.root / "b" / "main.py").write_text("from shared import x")
    assert versions(tiny, site) == {"other": "0.1"}


def test_a_module_on_pythonpath_counts_by_content(
    tiny: Tiny, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny.root.parent / "lib"
    place.mkdir()
    (place / "mine.py").write_text("1")
    monkeypatch.setenv("PYTHONPATH", str(place))
    (tiny.root / "b" / "main.py").write_text("import mine")
    before = versions(tiny, site)
    (place / "mine.py").write_text("2")
    after = versions(tiny, site)
    assert before.keys() == after.keys() == {"module mine"}
    assert before != after


@pytest.mark.parametrize("name", ["Alpha.py", "Alpha/__init__.py"])
def test_what_pythonpath_puts_before_a_distribution_counts_in_its_place(
    tiny: Tiny, site: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Python runs the file on PYTHONPATH, so an edit of it must run the step again."""
    file = tiny.root.parent / "lib" / name
    file.parent.mkdir(parents=True)
    file.write_text("import other")
    monkeypatch.setenv("PYTHONPATH", str(tiny.root.parent / "lib"))
    (tiny.root / "b" / "main.py").write_text("import Alpha.part")
    before = versions(tiny, site)
    assert before.keys() == {"module Alpha", "other"}
    file.write_text("import other  # edited")
    after = versions(tiny, site)
    assert after.keys() == before.keys()
    assert after["module Alpha"] != before["module Alpha"]


def test_a_folder_without_init_on_pythonpath_yields_to_a_distribution(
    tiny: Tiny, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("other", "mine"):
        (tiny.root.parent / "lib" / name).mkdir(parents=True)
        (tiny.root.parent / "lib" / name / "x.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tiny.root.parent / "lib"))
    (tiny.root / "b" / "main.py").write_text("import mine.x, other")
    found = versions(tiny, site)
    assert found.keys() == {"module mine", "other"}
    assert found["other"] == "0.1"
    assert found["module mine"].startswith("path ")


@pytest.mark.parametrize("mode", ["pth", "finder"])
def test_an_editable_distribution_counts_by_its_code(tiny: Tiny, site: Path, mode: str) -> None:
    source = tiny.root.parent / "checkout" / "src"
    (source / "tool" / "part").mkdir(parents=True)
    (source / "tool" / "__init__.py").write_text("_HOME = {'x': 'tool.part.lazy'}")
    (source / "tool" / "part" / "__init__.py").write_text("from . import near")
    (source / "tool" / "part" / "near.py").write_text("import other")
    (source / "tool" / "part" / "lazy.py").write_text("from gamma import x")
    (source / "tool" / "unused.py").write_text("import delta")
    install(site, "tool", "1")
    info = site / "tool-1.dist-info"
    (info / "direct_url.json").write_text(
        f'{{"dir_info": {{"editable": true}}, "url": "file://{source.parent}"}}'
    )
    if mode == "pth":
        (info / "RECORD").write_text("tool.pth,,\n")
        (site / "tool.pth").write_text(f"{source}\n")
    else:
        (info / "RECORD").write_text("__editable___tool_1_finder.py,,\n__editable__.tool.pth,,\n")
        (site / "__editable__.tool.pth").write_text("import __editable___tool_1_finder\n")
        (site / "__editable___tool_1_finder.py").write_text(
            f"MAPPING: dict[str, str] = {{'tool': '{source}/tool'}}\n"
        )
    (tiny.root / "b" / "main.py").write_text("import tool")
    before = versions(tiny, site)
    assert before.keys() == {"tool", "gamma", "other"}
    assert before["tool"].startswith("editable ")
    (source / "tool" / "__pycache__").mkdir()
    (source / "tool" / "__pycache__" / "x.pyc").write_text("")
    assert versions(tiny, site) == before
    (source / "tool" / "unused.py").write_text("import delta, gamma")
    after = versions(tiny, site)
    assert after["tool"] != before["tool"]
    assert {**after, "tool": ""} == {**before, "tool": ""}


def test_a_changed_version_runs_the_step_and_why_names_it(tiny: Tiny, site: Path) -> None:
    """A whole process, with the fake site-packages on its path."""
    import os
    import subprocess

    (tiny.root / "b" / "main.py").write_text("import Alpha")
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def call(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "coremlops", *words],
            cwd=tiny.root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    call("run")
    assert "up to date" in call("why", "b")
    install(site, "Alpha", "1.1", ("beta-lib[fast]>=1",))
    assert "  alpha 1.0 -> 1.1\n" in call("why", "b")
    lines = [line.split()[:2] for line in call("run").splitlines()]
    assert lines[:3] == [["a", "cached"], ["b", "ran"], ["c", "cached"]]


def test_what_this_environment_has(tmp_path: Path) -> None:
    found = installed(tmp_path / "installed.json")
    assert found.names["PIL"] == ["pillow"]
    assert found.names["yaml"] == ["pyyaml"]
    assert "protobuf" in found.names["google"]
    assert {item.name for item in found.closure(["onnx"])} >= {"onnx", "numpy", "protobuf"}
    again = installed(tmp_path / "installed.json")
    assert (again.names, again.distributions) == (found.names, found.distributions)


def test_imports_are_read_from_syntax() -> None:
    source = b"""
import a, b.c as d
from e import f
from .g import h
try:
    import i
except ImportError: pass
if 0:
    from j.k import l
"""
    assert imported_names(source) == {"a", "b.c", "e.f", "i", "j.k.l"}
    assert imported_names(source, "top.mod") >= {"top.g.h"}
    assert imported_names(source, "top.mod", is_package=True) >= {"top.mod.g.h"}
    assert imported_names(b"def (") == set()
    assert imported_names(b"\0") == set()


def test_a_built_in_component_reaches_what_it_uses_and_no_more() -> None:
    import coremlops

    modules = Modules(Path(coremlops.__file__).parent)
    names = {name.partition(".")[0] for name in modules.reached(["coremlops.pipeline.tree"])}
    assert "blake3" in names
    assert "coremltools" not in names
    assert "mlflow" in {name.partition(".")[0] for name in modules.reached(["coremlops.tracking"])}


BASE = Ingredients(
    command="python x.py {downstream}",
    params={"epochs": "20"},
    inputs={"data": "d1"},
    code={"step": "c1"},
    distributions={"numpy": "2.3.4"},
    python="cpython-311-linux-x86_64",
    environment={},
)
WORDS = st.text("abc=,:{}\"' ", max_size=4)
MAPS = st.dictionaries(WORDS, WORDS, max_size=2)


@given(
    st.builds(
        Ingredients,
        command=WORDS,
        params=MAPS,
        inputs=MAPS,
        code=MAPS,
        distributions=MAPS,
        python=WORDS,
        environment=MAPS,
    ),
    st.sampled_from(["command", "params", "inputs", "code", "distributions", "python", "environment"]),
    WORDS,
    MAPS,
)
@settings(max_examples=200, deadline=None)
def test_the_key_changes_if_and_only_if_an_ingredient_does(
    one: Ingredients, field: str, word: str, table: dict[str, str]
) -> None:
    value = word if field in ("command", "python") else table
    other = one._replace(**{field: value})  # type: ignore[arg-type]
    assert (one.key() == other.key()) == (one == other)
    assert Ingredients.from_json(one.as_json()).key() == one.key()


def test_the_same_pair_in_another_table_is_another_key() -> None:
    pair = {"x": "y"}
    keys = {
        BASE.key(),
        BASE._replace(params=pair).key(),
        BASE._replace(inputs=pair).key(),
        BASE._replace(code=pair).key(),
        BASE._replace(distributions=pair).key(),
        BASE._replace(environment=pair).key(),
    }
    assert len(keys) == 6


def test_the_order_of_names_does_not_count() -> None:
    one = BASE._replace(params={"a": "1", "b": "2"})
    assert one.key() == BASE._replace(params={"b": "2", "a": "1"}).key()


@pytest.mark.parametrize("text", ["[]", '{"format": 1, "scans": []}', '{"format": 1, "scans": {"a": 3}}'])
def test_a_damaged_memory_of_imports_is_made_again(tiny: Tiny, text: str) -> None:
    run(tiny.root)
    memory = tiny.root / ".coremlops" / "cache" / "imports.json"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(text)
    assert run(tiny.root).cached_steps == 3
