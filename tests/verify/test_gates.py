"""Gates: defaults, settings, verdicts."""

from __future__ import annotations

import pytest

from coremlops.errors import UsageError
from coremlops.verify.gates import Gates


def test_settings_replace_limits() -> None:
    gates = Gates().changed(["snr_db=55", "accuracy_drop=0.1"])
    assert (gates.snr_db, gates.accuracy_drop, gates.max_abs) == (55, 0.1, Gates().max_abs)


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("snr=3", "no gate 'snr'", "did you mean snr_db?"),
        ("snr_db=high", "gate snr_db: a number expected, as in snr_db=40, got 'high'", ""),
        ("snr_db", "gate snr_db: a number expected, as in snr_db=40, got no number", ""),
        ("snr_db=nan", "gate snr_db: a finite number expected, got nan", ""),
        ("snr_db=-500", "gate snr_db: 0 to 200 expected, got -500", ""),
        ("y.psnr_db=-1", "gate y.psnr_db: 0 to 200 expected, got -1", ""),
        ("top1_agreement=2", "gate top1_agreement: 0 to 1 expected, got 2", ""),
        ("y.max_abs=-1", "gate y.max_abs: 0 to inf expected, got -1", ""),
    ],
)
def test_a_bad_setting_is_named(setting: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Gates().changed([setting])
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_verdicts_know_their_direction_and_the_limit_itself_passes() -> None:
    at_limit = {"snr_db": 40.0, "top1_agreement": 1.0, "accuracy_drop": 0.0, "max_abs": 0.02}
    assert all(verdict.ok for verdict in Gates().judge(dict(at_limit)))
    for name, worse in (("snr_db", 39.9), ("top1_agreement", 0.9), ("accuracy_drop", 0.1), ("max_abs", 0.03)):
        verdicts = Gates().judge({**at_limit, name: worse})
        assert [verdict.name for verdict in verdicts if not verdict.ok] == [name]


def test_what_could_not_be_measured_fails_and_what_was_not_asked_is_left_out() -> None:
    (verdict,) = Gates().judge({"max_abs": None})
    assert not verdict.ok
    assert str(verdict) == "max_abs: at most 0.02 expected, got not a number"
