"""What `coremlops release list`, `explain` and `diff` print: they read and change nothing."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.collection import Choice, Profile
    from coremlops.pipeline.shipping import Shipping
    from coremlops.pipeline.standing import Standing


def show_list(args: argparse.Namespace, where: Shipping) -> int:
    """Print a table of each model."""
    from coremlops.pipeline import standing

    models, collection = standing.listing(where, args.name), standing.collection(where)
    if args.json:
        shown = {
            name: {each.line.channel: each.to_json() for each in channels}
            for name, channels in models.items()
        }
        listed = {"repository": str(where.repository), "collection": collection, "models": shown}
        print(json.dumps(listed))
        return 0
    if not models:
        print(f"{collection}: no version yet")
    for place, (name, channels) in enumerate(models.items()):
        if len(models) > 1:
            print(f"\n{name}" if place else name)
        _table(channels)
    return 0


def _table(channels: tuple[Standing, ...]) -> None:
    versions = {entry.version: entry for each in channels for entry in each.history.entries}
    print(f"{'version':>7}  {'model':12}  {'published':20}  channels")
    for number, entry in sorted(versions.items(), reverse=True):
        marks = [words for each in channels if (words := each.words(number))]
        model = entry.models[0][:12] if entry.models else "(the app's)"
        published = str(entry.to_json()["published"])
        print(f"{number:7}  {model:12}  {published:20}  {', '.join(marks)}".rstrip())


def show_choices(args: argparse.Namespace, where: Shipping, profile: Profile) -> int:
    """Print the choice of this device, of each model, with the reason for each version on offer."""
    from coremlops.pipeline import standing

    choices = standing.explain(where, args.channel, profile, args.name)
    if args.json:
        shown = {name: _choice_json(choice) for name, choice in choices.items()}
        about = {"collection": standing.collection(where), "channel": args.channel}
        print(json.dumps({**about, "models": shown}))
        return 0
    indent = "  " if len(choices) > 1 else ""
    for name, choice in choices.items():
        if indent:
            print(name)
        for version, reason in choice.reasons:
            print(f"{indent}version {version}: {reason}")
        print(f"{indent}{_use(choice)}")
    return 0


def _use(choice: Choice) -> str:
    if choice.use == "get" and choice.entry and choice.variant:
        return f"gets version {choice.entry.version}, variant {choice.variant.name}"
    return "uses the model that the app carries" if choice.use == "embedded" else "keeps what it has"


def _choice_json(choice: Choice) -> dict[str, object]:
    return {
        "use": choice.use,
        "version": choice.entry.version if choice.entry else None,
        "variant": choice.variant.name if choice.variant else None,
        "model": choice.variant.model if choice.variant else None,
        "reasons": [{"version": version, "reason": reason} for version, reason in choice.reasons],
    }


def show_difference(args: argparse.Namespace, where: Shipping) -> int:
    """Print what differs between two versions of a model."""
    from coremlops.pipeline.differences import difference
    from coremlops.pipeline.standing import open_repository

    repository = open_repository(where)
    found = difference(repository, args.before, args.after)
    if args.json:
        print(json.dumps({"collection": repository.collection, **found.to_json()}))
        return 0
    print(f"version {found.before} -> {found.after}")
    for variant in found.variants:
        models = " -> ".join(each[:12] for each in variant.models if each)
        print(f"  {variant.name:16} {variant.what:8} {models}, {variant.fetch} bytes to fetch")
        for file in variant.files:
            sizes = " -> ".join("-" if size is None else str(size) for size in (file.before, file.after))
            print(f"    {file.path}: {sizes}")
    for key, (before, after) in found.terms.items():
        print(f"  {key}: {json.dumps(before)} -> {json.dumps(after)}")
    return 0
