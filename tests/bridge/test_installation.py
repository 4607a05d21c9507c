"""Where Apple's framework is, or where coremltools is not, nothing changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TELL = "print(done, 'coremltools.libcoremlpython' in sys.modules, len(sys.meta_path) == before)"


def tell(site: Path, line: str = "") -> subprocess.CompletedProcess[str]:
    """Install in a fresh process that finds the coremltools of `site`."""
    code = (
        f"import sys\nsys.path.insert(0, {str(site)!r})\nimport coremlops.bridge\n{line}\n"
        f"before = len(sys.meta_path)\ndone = coremlops.bridge.install()\n{TELL}"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def package(site: Path, *files: str) -> None:
    (site / "coremltools").mkdir()
    for name in ("__init__.py", *files):
        (site / "coremltools" / name).touch()


def test_the_native_module_of_a_mac_stays(tmp_path: Path) -> None:
    package(tmp_path, "libcoremlpython.so")
    assert tell(tmp_path).stdout == "False False True\n"


def test_another_stand_in_stays(tmp_path: Path) -> None:
    package(tmp_path)
    done = tell(tmp_path, "sys.modules['coremltools.libcoremlpython'] = sys")
    assert done.stdout == "False True True\n", done.stderr


def test_it_is_installed_where_the_native_module_is_not(tmp_path: Path) -> None:
    package(tmp_path)
    assert tell(tmp_path).stdout == "True True False\n"


def test_without_coremltools_the_extra_is_named(tmp_path: Path) -> None:
    done = tell(tmp_path, "sys.modules['coremltools'] = None")
    assert "MissingExtraError: coremltools is not installed" in done.stderr
    assert "pip install 'coremlops[convert]'" in done.stderr


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    package(tmp_path)
    code = "coremlops.bridge.install(precision='double')"
    assert "UsageError: unknown precision 'double'" in tell(tmp_path, code).stderr
