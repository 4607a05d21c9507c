"""The targets that are members: one role while a collection is small, hash bins when it grows.

A bin is a role that `<collection>-members` delegates a share of all paths to, by the first bits of their
SHA-256 (TAP 15, succinct roles), so that a device reads a few dozen targets and not all of them, and a
publisher signs only the bins that changed.
"""

from __future__ import annotations

from collections.abc import Collection

from tuf.api.metadata import Delegations, Metadata, SuccinctRoles, TargetFile, Targets

from coremlops.collection import members_role
from coremlops.release.roles import Roles

# A device that is new reads the snapshot, which names every bin, and a bin a member: about ten targets a bin
# is the least of both together (benchmarks/release/bytes.py).
FLAT = 64  # targets in one role before it is split
FULL = 14  # targets a bin, on average, before all are split further
SPLIT = 10  # at most so many a bin after a split, on average
SAMPLE = 32  # bins that tell how full they are
MOST_BITS = 14


class Members:
    """The members of one collection, read from `roles` as they are asked for; `changed` names what to
    sign."""

    def __init__(self, roles: Roles, collection: str) -> None:
        self._roles = roles
        self._role = members_role(collection)
        self.changed: set[str] = set()

    def get(self, path: str) -> TargetFile | None:
        """The target of this path, if it is signed."""
        return self._roles.targets(self._of(path)).signed.targets.get(path)

    def put(self, target: TargetFile) -> None:
        """Name a target; it is signed with the next commit."""
        role = self._of(target.path)
        self._roles.targets(role).signed.targets[target.path] = target
        self.changed.add(role)

    def drop(self, path: str) -> None:
        """Name a target no longer."""
        role = self._of(path)
        if self._roles.targets(role).signed.targets.pop(path, None) is not None:
            self.changed.add(role)

    def paths(self) -> list[str]:
        """Every path, which reads all bins."""
        return sorted(path for role in self.roles() for path in self._roles.targets(role).signed.targets)

    def roles(self) -> tuple[str, ...]:
        """The roles that hold targets: the one, or its bins."""
        bins = self._bins
        return tuple(bins.get_roles()) if bins is not None else (self._role,)

    def grow(self) -> None:
        """Split into bins, or into more, when the roles that are about to be signed became too full.

        The bins are told by those that changed, and if these seem full by a sample: paths are hashes, so all
        are about as full.
        """
        bins, roles = self._bins, self.roles()
        full = FLAT if bins is None else FULL
        if not self._fuller(self.changed, full):
            return
        if not self._fuller({*self.changed, *roles[:: len(roles) // SAMPLE or 1]}, full):
            return
        everything = [target for role in roles for target in self._targets(role).values()]
        wanted = max(2, (len(everything) // SPLIT).bit_length())
        bits = min(wanted, MOST_BITS)
        if bins is not None and bits <= bins.bit_length:
            return
        parent = self._roles.targets(self._role).signed
        above = self._roles.targets("targets").signed.delegations
        assert above is not None  # noqa: S101 - `targets` delegates to this role
        assert above.roles is not None  # noqa: S101
        role = above.roles[self._role]
        succinct = SuccinctRoles(list(role.keyids), role.threshold, bits, f"{self._role}{bits}")
        parent.delegations = Delegations(
            {keyid: above.keys[keyid] for keyid in role.keyids}, succinct_roles=succinct
        )
        parent.targets = {}
        for name in succinct.get_roles():
            self._roles.add(name, Metadata(Targets()))
        for target in everything:
            self._roles.targets(succinct.get_role_for_target(target.path)).signed.targets[target.path] = (
                target
            )
        self.changed = {self._role, *succinct.get_roles()}

    def _fuller(self, roles: Collection[str], most: int) -> bool:
        """Whether these roles have more than `most` targets on average."""
        return sum(len(self._targets(role)) for role in roles) > most * len(roles)

    @property
    def _bins(self) -> SuccinctRoles | None:
        delegations = self._roles.targets(self._role).signed.delegations
        return delegations.succinct_roles if delegations is not None else None

    def _of(self, path: str) -> str:
        bins = self._bins
        return self._role if bins is None else bins.get_role_for_target(path)

    def _targets(self, role: str) -> dict[str, TargetFile]:
        return self._roles.targets(role).signed.targets
