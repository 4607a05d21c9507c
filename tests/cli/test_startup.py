"""What starting coremlops costs: no library is imported that the command does not use."""

import subprocess
import sys

import pytest

from coremlops.cli import COMMANDS, main, parser_for

HEAVY = {
    "numpy",
    "onnx",
    "onnxruntime",
    "mlflow",
    "torch",
    "coremltools",
    "tuf",
    "PIL",
    "rich",
    "yaml",
    "google.protobuf",
}


def imported(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after `code`."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code", ["import coremlops", "from coremlops.cli import main; main(['--help'])", "import coremlops.cli"]
)
def test_start_imports_nothing_heavy(code: str) -> None:
    assert imported(code) & HEAVY == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy_and_shows_an_example(name: str) -> None:
    assert imported(f"from coremlops.cli import parser_for; parser_for({name!r})") & HEAVY == set()
    text = parser_for(name).format_help()
    assert f"coremlops {name}" in text
    assert "example" in text


def test_public_names_resolve() -> None:
    import coremlops

    for name in coremlops.__all__:
        assert getattr(coremlops, name) is not None
    with pytest.raises(AttributeError, match="'nothing'"):
        coremlops.nothing  # noqa: B018


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verfy"]) == 2
    assert "did you mean `coremlops verify`?" in capsys.readouterr().err


def test_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["describe", "--nope"])
    assert stop.value.code == 2


def test_an_option_of_a_group_s_command_has_one_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["device", "status", "--dev", "phone"])
    assert stop.value.code == 2
    assert "--device" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("device", "update", "--device"), ("repo", "init")])
def test_what_the_file_system_refuses_is_one_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "a" * 300]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert "File name too long" in err


def test_no_arguments_prints_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
