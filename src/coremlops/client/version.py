"""One version of a model on its way: from its signed manifest to files that were checked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.client.download import Downloads, Wanted
from coremlops.client.models import Models
from coremlops.client.progress import Meter
from coremlops.client.slot import Installed
from coremlops.client.starts import Starts, checks_file
from coremlops.client.state import short
from coremlops.client.trust import Trusted
from coremlops.collection import Entry, Manifest, Variant
from coremlops.errors import CoremlopsError, UpdateError, UsageError
from coremlops.files import clear_unless_file

if TYPE_CHECKING:
    from coremlops.golden import Judgement


class Judged(Exception):
    """A version was looked at and found wanting, for good."""

    def __init__(self, judged: Installed, reason: str, judgement: Judgement | None = None) -> None:
        super().__init__(reason)
        self.judged, self.reason, self.judgement = judged, short(reason), judgement


@dataclass(frozen=True, slots=True)
class Place:
    """Where versions come from and go to. `trusted`: the repository as it is signed now."""

    folder: Path
    collection: str
    trusted: Trusted
    models: Models
    downloads: Downloads
    meter: Meter


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the model `name` that a device is to have. `received`: bytes that its manifest took.
    `said`: what people call the model, empty where there is no other."""

    place: Place
    name: str
    said: str
    entry: Entry
    variant: Variant
    manifest: Manifest
    received: int

    @staticmethod
    def look(place: Place, name: str, said: str, entry: Entry, variant: Variant) -> Version:
        """Fetch the manifest, and see that it is of this version.

        Raises `Judged`, `UpdateError`, `RepositoryError`, tuf's `DownloadError`, OSError.
        """
        trusted, sha256 = place.trusted, variant.manifest
        wanted = Wanted(
            sha256,
            trusted.manifest_length(place.collection, sha256),
            trusted.member_url(place.collection, sha256),
            f"version {entry.version}: its manifest",
        )
        received = place.downloads.fetch(wanted)
        manifest = Manifest.from_bytes(place.downloads.part(sha256).read_bytes())
        if manifest.about != (place.collection, name, entry.version, variant.name, variant.model):
            collection, of, version, form, _ = manifest.about
            raise Judged(
                Installed.of(entry, variant),
                f"the manifest is of {collection}, {of} version {version}, {form}; "
                f"the index says {name} {entry.version}, {variant.name}",
            )
        return Version(place, name, said, entry, variant, manifest, received)

    @property
    def installed(self) -> Installed:
        """What the device has of it once it is active."""
        return Installed.of(self.entry, self.variant)

    @property
    def contents(self) -> tuple[Wanted, ...]:
        """Its files, each content once, with the lengths that are signed. Raises `UpdateError`."""
        wanted: dict[str, Wanted] = {}
        trusted, collection, version = self.place.trusted, self.place.collection, self.entry.version
        for member in self.manifest.members:
            length = trusted.member_length(collection, member.sha256)
            if length != member.length:
                raise UpdateError(
                    f"version {version}: {member.path}: signed with {length} bytes, "
                    f"the manifest says {member.length}"
                )
            url = trusted.member_url(collection, member.sha256)
            name = f"version {version}: {member.path}"
            wanted.setdefault(member.sha256, Wanted(member.sha256, member.length, url, name))
        return tuple(wanted.values())

    @property
    def total(self) -> int:
        """Bytes of all its files."""
        return sum(each.length for each in self.contents)

    def missing(self, coming: Collection[str] = ()) -> tuple[Wanted, ...]:
        """Its files that no model here has, and that are not `coming` (SHA-256s) for another one."""
        found = self.place.models.found(self.manifest)
        return tuple(each for each in self.contents if each.sha256 not in found and each.sha256 not in coming)

    def fetch(self) -> int:
        """Fetch what is not here; return how many bytes came over the wire. Raises as `look`."""
        wanted = self.missing()
        self.place.downloads.require_space(wanted)
        received = 0
        for each in wanted:
            self._begin("download", f"{each.name} ({each.length} bytes)")
            received += self.place.downloads.fetch(each)
        return received

    def put(self, active: Collection[str]) -> Judgement:
        """Lay its files out, check them, and move them to their place. `active`: digests that apps may run.

        Raises `Judged`, `UpdateError`, `UsageError`, OSError.
        """
        models = self.place.models
        if models.holds(self.manifest):
            return self._check(models.path(self.variant.model))
        parts = {each.sha256: self.place.downloads.part(each.sha256) for each in self.manifest.members}
        incoming = models.assemble(self.manifest, parts | models.found(self.manifest))
        judgement = self._check(incoming)
        models.put(incoming, self.variant.model, active=active)
        return judgement

    def begin_activation(self) -> None:
        """Tell whoever watches."""
        self._begin("activate", f"version {self.entry.version}")

    def _check(self, folder: Path) -> Judgement:
        """What executing the golden set found. Raises `Judged` unless the files are the model that was
        promised and it answers as promised.

        A model that takes the process down is refused after three such checks.
        """
        self._begin("check", f"version {self.entry.version}: checking the golden set")
        file = checks_file(self.place.folder, self.name)
        clear_unless_file(file)
        begun = Starts.load(file, self.variant.manifest)
        if begun.exhausted:
            file.unlink(missing_ok=True)  # a newer coremlops may judge it anew
            raise Judged(self.installed, f"{begun.count} checks of its golden set in a row did not end")
        replace(begun, count=begun.count + 1).save(file)
        try:
            judgement = self._judged(folder)
        finally:
            file.unlink(missing_ok=True)
        if not judgement.ok:
            raise Judged(self.installed, judgement.reason, judgement)
        return judgement

    def _judged(self, folder: Path) -> Judgement:
        from coremlops import golden

        try:
            self.place.models.check_digest(folder, self.manifest)
            return golden.check(folder / self.manifest.payload, folder / "golden")
        except UsageError:
            raise  # Something is not installed here: no verdict on the model.
        except CoremlopsError as error:
            raise Judged(self.installed, error.message) from None
        except (OSError, MemoryError):
            raise
        except Exception as error:  # An engine that fails on a model must not take the device with it.
            why = f"the model cannot be executed: {type(error).__name__}: {error}"
            raise Judged(self.installed, why) from None

    def _begin(self, phase: str, what: str) -> None:
        self.place.meter.begin(phase, f"{self.said} {what}" if self.said else what)
