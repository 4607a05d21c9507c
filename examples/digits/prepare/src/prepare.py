"""scikit-learn's digits: pictures of 8 x 8 to learn from, few of them with a label, and others to test."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TRAIN = 1200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--downstream", type=Path, required=True)
    parser.add_argument("--labelled", type=int, required=True)
    args = parser.parse_args()
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = (digits.images[order, None] / 16).astype(np.float32)
    truth = digits.target[order].astype(np.float32)
    labelled = slice(0, args.labelled)
    np.savez(args.downstream / "labelled.npz", x=pictures[labelled], truth=truth[labelled])
    # NaN: nobody said which digit that is.
    known = np.where(np.arange(TRAIN) < args.labelled, truth[:TRAIN], np.nan).astype(np.float32)
    np.savez(args.downstream / "train.npz", x=pictures[:TRAIN], truth=known)
    np.savez(args.downstream / "test.npz", x=pictures[TRAIN:], truth=truth[TRAIN:])
    print(f"{args.labelled} of {TRAIN} pictures have a label, {len(truth) - TRAIN} are for the test")


if __name__ == "__main__":
    main()
