"""What a device has of one model: the version that it runs, the one before, and what it will not take."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from coremlops.collection import Entry, Variant, check_name, check_variant, document

MAX_REFUSED = 32


@dataclass(frozen=True, slots=True)
class Installed:
    """A variant of a version that is on this device.

    `model`: its digest; `manifest`: its manifest's SHA-256; `hold`: it wins against a newer model that the
    app carries. `system`: on which it kept its golden set, `iOS 17.4` say.
    """

    version: int
    variant: str
    model: str
    manifest: str
    hold: bool = False
    system: str = ""

    @staticmethod
    def of(entry: Entry, variant: Variant, system: str = "") -> Installed:
        return Installed(entry.version, variant.name, variant.model, variant.manifest, entry.hold, system)

    @staticmethod
    def from_json(value: object, what: str) -> Installed:
        """Read one; `what` names it in messages. Raises `RepositoryError`."""
        keys = ("version", "variant", "model", "manifest", "hold")
        fields = document.Fields(value, what, keys, ("system",))
        return Installed(
            version=fields.version("version"),
            variant=check_variant(fields.text("variant")),
            model=fields.sha256("model"),
            manifest=fields.sha256("manifest"),
            hold=fields.truth("hold"),
            system=fields.text("system") if fields.has("system") else "",
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that this device will not take, and why. `client`: the coremlops that judged it."""

    version: int
    manifest: str
    reason: str
    client: str

    @staticmethod
    def from_json(value: object, what: str) -> Refused:
        """Read one; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("version", "manifest", "reason", "client"))
        version, manifest = fields.version("version"), fields.sha256("manifest")
        return Refused(version, manifest, fields.text("reason"), fields.text("client"))


@dataclass(frozen=True, slots=True)
class Slot:
    """One model on a device. `name`: the model's in its collection; `embedded`: the channel sends the device
    to the model that the app carries."""

    name: str
    active: Installed | None = None
    previous: Installed | None = None
    embedded: bool = False
    refused: tuple[Refused, ...] = ()

    @property
    def digests(self) -> set[str]:
        """The models that it needs: the active and the previous one's."""
        return {each.model for each in (self.active, self.previous) if each is not None}

    def refusals(self, client: str) -> dict[str, str]:
        """Reasons by manifest, of what this coremlops refused; a newer one may judge anew."""
        return {each.manifest: each.reason for each in self.refused if each.client == client}

    def refusing(self, refused: Refused) -> Slot:
        """The same with this refusal remembered instead of an older one of the same version."""
        others = tuple(each for each in self.refused if each.manifest != refused.manifest)
        return replace(self, refused=(*others, refused)[-MAX_REFUSED:])

    def activating(self, installed: Installed) -> Slot:
        """The same with `installed` active and what was active before as the previous one."""
        same = self.active is not None and self.active.model == installed.model
        return replace(
            self,
            active=installed,
            embedded=False,
            previous=self.previous if same else self.active,
            refused=tuple(each for each in self.refused if each.manifest != installed.manifest),
        )

    def returning(self, *, carried: bool) -> Slot:
        """The same with the previous model active; without one, sent to the model that the app carries if
        there is one (`carried`)."""
        return replace(
            self,
            active=self.previous,
            previous=None,
            embedded=self.embedded or (self.previous is None and carried),
        )

    def to_json(self) -> dict[str, object]:
        """The JSON object."""
        return {
            "name": self.name,
            "active": None if self.active is None else asdict(self.active),
            "previous": None if self.previous is None else asdict(self.previous),
            "embedded": self.embedded,
            "refused": [asdict(each) for each in self.refused],
        }

    @staticmethod
    def from_json(value: object, what: str) -> Slot:
        """Read one; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("name", "active", "previous", "embedded", "refused"))
        active, previous = fields.raw("active"), fields.raw("previous")
        return Slot(
            name=check_name(fields.text("name")),
            active=None if active is None else Installed.from_json(active, f"{what}: active"),
            previous=None if previous is None else Installed.from_json(previous, f"{what}: previous"),
            embedded=fields.truth("embedded"),
            refused=tuple(
                Refused.from_json(item, f"{what}: refused[{place}]")
                for place, item in enumerate(fields.items("refused", MAX_REFUSED))
            ),
        )
