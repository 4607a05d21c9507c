from pathlib import Path

import pytest
from PIL import Image

from coremlops.errors import MissingExtraError, UsageError
from coremlops.project import samples


def test_people_are_folders_of_pictures_with_credits_beside(tmp_path: Path) -> None:
    samples.write_people(tmp_path / "photos", {"ada": "s1", "ben": "s40"}, range(1, 4))
    written = sorted(p.relative_to(tmp_path / "photos").as_posix() for p in tmp_path.rglob("*.png"))
    assert written == ["ada/1.png", "ada/2.png", "ada/3.png", "ben/1.png", "ben/2.png", "ben/3.png"]
    assert "AT&T Laboratories Cambridge" in (tmp_path / "photos" / "CREDITS").read_text()


def test_a_photo_keeps_its_pixels(tmp_path: Path) -> None:
    samples.write_photo(tmp_path / "a.png", "s3", 7)
    with Image.open(tmp_path / "a.png") as ours, Image.open(samples.sample_photo("s3", 7)) as theirs:
        assert ours.size == (92, 112)
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(("subject", "photo"), [("s41", 1), ("s0", 1), ("../s1", 1), ("s1", 0), ("s1", 11)])
def test_what_does_not_exist_is_a_usage_error(subject: str, photo: int) -> None:
    with pytest.raises(UsageError, match=r"a person s1\.\.s40 and a photo 1\.\.10"):
        samples.sample_photo(subject, photo)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    assert not samples.installed()
    with pytest.raises(MissingExtraError) as error:
        samples.write_people(tmp_path / "photos", {"ada": "s1"})
    assert "pip install 'coremlops[demo]'" in error.value.message
