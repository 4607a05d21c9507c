"""`why` names what changed."""

from __future__ import annotations

import shutil

import pytest

from coremlops.errors import ConfigError, StepError
from coremlops.pipeline import run, why
from tests.pipeline.conftest import Tiny


def test_never_ran_then_up_to_date(tiny: Tiny) -> None:
    assert why(tiny.root, "a").status == "never ran"
    assert why(tiny.root, "c").reasons == ("b runs first, because it never ran",)
    run(tiny.root)
    answer = why(tiny.root, "c")
    assert (answer.status, answer.reasons, answer.runs) == ("up to date", (), False)
    assert answer.last_reasons == ("first run",)


def test_a_parameter(tiny: Tiny) -> None:
    run(tiny.root)
    answer = why(tiny.root, "b", overrides={"epochs": "3"})
    assert (answer.status, answer.reasons) == ("changed", ("parameter epochs: 20 -> 3",))
    run(tiny.root, overrides={"epochs": "3"})
    assert why(tiny.root, "b", overrides={"epochs": "3"}).last_reasons == ("parameter epochs: 20 -> 3",)


def test_input_files_are_counted_and_named(tiny: Tiny) -> None:
    run(tiny.root)
    (tiny.root / "data" / "eve").mkdir()
    for name in ("1.txt", "2.txt"):
        (tiny.root / "data" / "eve" / name).write_text(name)
    (tiny.root / "data" / "ada" / "1.txt").write_text("ONE")
    assert why(tiny.root, "a").reasons == (
        "input data: 2 files added, 1 changed: eve/1.txt eve/2.txt ada/1.txt",
    )
    (tiny.root / "data" / "ada" / "2.txt").write_text("2")
    assert why(tiny.root, "a").reasons == (
        "input data: 3 files added, 1 changed: ada/2.txt eve/1.txt eve/2.txt ...",
    )


def test_a_removed_file(tiny: Tiny) -> None:
    (tiny.root / "data" / "ada" / "2.txt").write_text("2")
    run(tiny.root)
    (tiny.root / "data" / "ada" / "2.txt").unlink()
    assert why(tiny.root, "a").reasons == ("input data: 1 file removed: ada/2.txt",)


def test_code_command_and_shared_code(tiny: Tiny) -> None:
    (tiny.root / "shared").mkdir()
    (tiny.root / "shared" / "x.py").write_text("1")
    tiny.head = "code: [shared]\n"
    tiny.save()
    run(tiny.root)
    (tiny.root / "b" / "count.sh").write_text('wc < "$1/all.txt" > "$1/count.txt"\n')
    assert why(tiny.root, "b").reasons == ("code: b/count.sh changed",)
    (tiny.root / "shared" / "x.py").write_text("2")
    (tiny.root / "shared" / "y.py").write_text("2")
    assert why(tiny.root, "a").reasons == ("code: shared/y.py added", "code: shared/x.py changed")
    path = tiny.root / "a" / "MLproject"
    path.write_text(path.read_text().replace("cp -r", "cp -R"))
    assert why(tiny.root, "a").reasons[0] == (
        "command: 'cp -r {data}/. {downstream}' -> 'cp -R {data}/. {downstream}'"
    )


def test_a_step_after_a_change_waits_for_it(tiny: Tiny) -> None:
    run(tiny.root)
    answer = why(tiny.root, "c", overrides={"word": "bye"})
    assert answer.status == "waits"
    assert answer.reasons == ("b runs first, because parameter word: hello -> bye",)


def test_afterwards_it_says_that_the_output_before_it_changed(tiny: Tiny) -> None:
    run(tiny.root)
    (tiny.root / "b" / "count.sh").write_text("true\n")
    run(tiny.root)
    assert why(tiny.root, "b").last_reasons == ("code: b/count.sh changed",)
    (tiny.root / "b" / "count.sh").write_text('echo more >> "$1/all.txt"\n')
    run(tiny.root)
    assert why(tiny.root, "c").last_reasons == ("input upstream: b's output changed (1 file changed: .)",)


def test_a_lost_output(tiny: Tiny) -> None:
    import shutil

    output = run(tiny.root).step("b").output
    assert output is not None
    shutil.rmtree(output)
    assert (why(tiny.root, "b").status, why(tiny.root, "b").runs) == ("lost", True)


def test_a_failed_step_is_still_to_be_done(tiny: Tiny) -> None:
    run(tiny.root)
    (tiny.root / "b" / "count.sh").write_text("exit 1\n")
    with pytest.raises(StepError):
        run(tiny.root)
    assert why(tiny.root, "b").reasons == ("code: b/count.sh changed",)


def test_asking_needs_no_place_to_write(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coremlops.pipeline.tree.SETTLED_NS", -(10**12))  # else what is young is not kept
    run(tiny.root)
    trees = tiny.root / ".coremlops" / "cache" / "trees"
    shutil.rmtree(trees)
    trees.write_text("a file where the folder should be, as a read-only disk would refuse it")
    assert why(tiny.root, "a").status == "up to date"


def test_asking_runs_nothing(tiny: Tiny) -> None:
    why(tiny.root, "c")
    assert not (tiny.root / ".coremlops" / "store").exists()
    assert not (tiny.root / ".coremlops" / "runs").exists()


def test_a_wrong_name_is_answered_with_the_nearest(tiny: Tiny) -> None:
    tiny.step("train", "cp {x} {downstream}", {"x": "a"})
    tiny.save()
    with pytest.raises(ConfigError, match="no step 'trian'") as caught:
        why(tiny.root, "trian")
    assert "did you mean 'train'?" in caught.value.hint
