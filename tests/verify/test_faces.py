"""The default gates on a real recogniser: EfficientNet-Lite0 on two people of ORL.

Measured on six pairs of people, faithful fp16 conversions: SNR of the log-odds 46 to 58 dB, worst inner
channel 18.8 to 19.4 dB; fp32: 128 dB and 90 dB. A dead channel stands at 0 dB. Of 72 channels of nine middle
convolutions zeroed one at a time, the outputs alone (snr_db at 40) show 37 %; of 20 judged by channel_snr_db
at 10 all show. About one channel in a hundred is so quiet that neither would show it (by calculation).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coremlops.verify import verify
from tests.verify.fixtures import Trained
from tests.verify.mutations import convolutions, drop_scale, swap_labels, zero_channel

pytestmark = pytest.mark.slow


def test_both_precisions_pass_with_room(faces: Trained) -> None:
    half = verify(faces.float16, faces.source, faces.data)
    assert half.ok, half.failed
    assert len(half.layers) == 49
    assert half.worst_layers[0].worst_db > 15
    full = verify(faces.float32, faces.source, faces.data)
    assert full.ok, full.failed
    assert full.snr_db > 80


@pytest.mark.parametrize("which", [16, 24, 33])
def test_a_dead_channel_in_the_middle_is_caught(faces: Trained, tmp_path: Path, which: int) -> None:
    """Two arbitrary channels of three convolutions in the middle third, whatever they mean to the outputs."""
    convolution = convolutions(faces.float16)[which]
    for channel in (0, convolution.channels // 2):
        hurt = zero_channel(faces.float16, tmp_path / "m.mlpackage", convolution, channel)
        report = verify(hurt, faces.source, faces.data)
        assert "channel_snr_db" in {verdict.name for verdict in report.verdicts if not verdict.ok}
        assert report.worst_layers[0].worst_db <= 0.1
        shutil.rmtree(hurt)


def test_a_dropped_scale_is_caught(faces: Trained, tmp_path: Path) -> None:
    report = verify(drop_scale(faces.float16, tmp_path / "m.mlpackage"), faces.source, faces.data)
    assert {"snr_db", "channel_snr_db", "max_abs"} <= {item.name for item in report.verdicts if not item.ok}


def test_swapped_labels_are_caught(faces: Trained, tmp_path: Path) -> None:
    report = verify(swap_labels(faces.float16, tmp_path / "m.mlpackage"), faces.source, faces.data)
    assert {"snr_db", "top1_agreement", "max_abs"} <= {item.name for item in report.verdicts if not item.ok}
    assert report.top1_agreement == 0.0
