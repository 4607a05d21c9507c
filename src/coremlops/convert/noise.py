"""What coremltools and torch print while they work, sorted into what matters and what does not."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator

# Each was read on a conversion that is right. Anything that is not listed here is passed on.
_NOISE = re.compile(
    r"Failed to load _ML\w+: No module named"  # the Mac's native half; nothing here needs it
    r"|scikit-learn version .* is not supported"  # we convert no scikit-learn model
    r"|(XGBoost|TensorFlow|Keras) version .*"
    r"|Torch version .* has not been tested with coremltools"  # our tests do: constraints.txt pins the pair
    r"|Support for converting Torch Script Models is experimental"
    r"|\d+%\|"  # tqdm
    r"|Output,? '?.*'?,? of the source model, has been renamed to"
    r"|.*Input, 'net\..*', of the source model, has been renamed to"  # and ours renames it back
    r"|Tuple detected at graph output"
    r"|Torch var .* is added again"
    r"|Saving value type of .* into a builtin type"
    r"|Model is not in eval mode"  # exported programs have no such mode; the outputs are compared instead
)
_SILENT = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)


class Heard:
    """What was said. `lines` is complete once the block of `listening` has ended."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ()


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Catch stderr and warnings inside the block; keep only lines that are not known to be harmless.

    The whole process's stderr is caught, so it belongs around one conversion in a process of its own kind.
    """
    heard, stream = Heard(), io.StringIO()
    try:
        with contextlib.redirect_stderr(stream), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            yield heard
    finally:
        said = [line.strip() for line in re.split(r"[\r\n]+", stream.getvalue())]
        said += [
            f"{item.category.__name__}: {' '.join(str(item.message).split())}"
            for item in caught
            if not issubclass(item.category, _SILENT)
        ]
        heard.lines = tuple(dict.fromkeys(line for line in said if line and not _NOISE.search(line)))
