"""Checks a folder of photos and splits it into pictures to train on and pictures to test with."""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project, where `shared` lives

import coremlops
from coremlops.digest import members_digest
from coremlops.errors import DataError
from shared import step
from shared.photos import HEIGHT, IMAGE_OPTION, WIDTH, Photo, find_photos, open_photo

MIN_PHOTOS = 4


def check(photos: Sequence[Photo]) -> dict[str, list[Photo]]:
    """The distinct photos of each person.

    Raises `DataError` if there are fewer than two people, too few photos of one, or one photo of two people.
    """
    by_digest: dict[str, Photo] = {}
    people: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        first = by_digest.setdefault(photo.digest, photo)
        if first is photo:
            people[photo.person].append(photo)
        elif first.person != photo.person:
            raise DataError(
                f"{first.name} and {photo.name} are the same picture; expected a photo to show one person",
                hint="delete the wrong one",
            )
        else:
            print(f"ignored {photo.name}: the same picture as {first.name}")
    if len(people) < 2:
        found = ", ".join(people) or "nobody"
        raise DataError(
            f"expected photos of two people or more, got {found}",
            hint="make one folder a person: photos/ada/*.jpg, photos/ben/*.jpg",
        )
    for person, theirs in people.items():
        if len(theirs) < MIN_PHOTOS:
            raise DataError(
                f"expected {MIN_PHOTOS} different photos or more of {person}, got {len(theirs)}",
                hint="ten a person are a good start",
            )
    return dict(people)


def split(photos: Sequence[Photo], holdout: float) -> tuple[list[Photo], list[Photo]]:
    """One person's photos to train on and to test with.

    A photo's own bytes choose its side, so that it stays there when other photos arrive. Only where chance
    would hold out a quarter more or less than `holdout` do the photos nearest to the threshold change over.
    """
    ranked = sorted(photos, key=lambda photo: photo.digest)
    below = sum(int(photo.digest[:8], 16) < holdout * 2**32 for photo in ranked)
    share = len(ranked) * holdout
    fewest = min(max(1, math.ceil(0.75 * share)), len(ranked) - 2)
    most = min(max(fewest, math.floor(1.25 * share)), len(ranked) - 2)
    cut = max(fewest, min(below, most))
    return ranked[cut:], ranked[:cut]


def write(photos: Sequence[Photo], folder: Path) -> None:
    """Write the prepared pictures as `<folder>/<person>/<name>-<digest>.png`."""
    for photo in photos:
        picture = coremlops.prepare_image(open_photo(photo.path), WIDTH, HEIGHT, IMAGE_OPTION)
        path = folder / photo.person / f"{photo.path.stem}-{photo.digest[:8]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    parser.add_argument("--holdout", type=float, required=True)
    args = parser.parse_args()
    if not 0.1 <= args.holdout <= 0.9:
        raise DataError(f"expected a holdout between 0.1 and 0.9, got {args.holdout:g}")

    photos, notes = find_photos(args.photos)
    for note in notes:
        print(note)
    people = check(photos)
    for person, theirs in people.items():
        train, test = split(theirs, args.holdout)
        write(train, args.downstream / "train")
        write(test, args.downstream / "test")
        print(f"{person}: {len(train)} photos to train on, {len(test)} to test with")
    used = [photo for theirs in people.values() for photo in theirs]
    dataset = {
        "name": "photos",
        "digest": members_digest({photo.name: photo.digest for photo in used}),
        "source": "photos",
        "counts": {person: len(theirs) for person, theirs in people.items()},
    }
    step.write_json(args.downstream / "dataset.json", dataset)


if __name__ == "__main__":
    step.run(main)
