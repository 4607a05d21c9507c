"""5.6.7 of TUF's client workflow: the pre-order depth-first search for a target through delegations."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Targets

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository, new_signer

# "A>B *.py !" : A delegates *.py to B, and that ends the search; "T" is the top-level role.
GRAPHS: dict[str, tuple[str, str]] = {
    "one": ("T>A", "A"),
    "in order of appearance": ("T>A, T>B", "A B"),
    "two levels": ("T>A, T>B, B>C", "A B C"),
    "depth first": ("T>A, T>B, A>C, A>D", "A C D B"),
    "three levels, depth first": ("T>A, T>B, A>C, C>D", "A C D B"),
    "a terminating role ends the search": ("T>A, T>B, A>C * !, A>D", "A C"),
    "what a terminating role delegates is searched": ("T>A, T>B, A>C * !, C>D", "A C D"),
    "a terminating role at the top": ("T>A * !, T>B, A>C", "A C"),
    "a terminating role for other paths ends nothing": ("T>A *.py !, T>B", "B"),
    "a branch for other paths": ("T>A *.py, T>B, A>C", "B"),
    "a deep branch for other paths": ("T>A, T>B, A>C *.py, C>D", "A B"),
    "a cycle": ("T>A, T>B, B>C, C>D, D>B", "A B C D"),
    "a role that delegates to itself": ("T>A, A>A, T>B", "A B"),
    "two roles lead to a third": ("T>A, T>B, B>C, A>C", "A C B"),
    "two roles lead to a third, one for other paths": ("T>A, T>B, B>C, A>C *.py", "A B C"),
    "a wildcard does not cross a slash": ("T>A *, T>B */*", "A"),
    "any one character": ("T>A missing?ath, T>B missing??ath", "A"),
    "a part of the name": ("T>A missing, T>B path, T>C missingpath", "C"),
}


def delegate(repository: TufRepository, graph: str) -> None:
    roles = {"targets"}
    for edge in graph.split(", "):
        (parent, name), *rest = edge.split(" ")[0].split(">"), *edge.split(" ")[1:]
        paths = (rest[0],) if rest else ("*",)
        repository.delegate("targets" if parent == "T" else parent, name, paths, terminating="!" in rest)
        roles.add(name)
    repository.publish(*sorted(roles), "snapshot", "timestamp")


def below(client: Client) -> list[str]:
    """The roles that were asked for after the four of the top level."""
    return [path.split(".")[1] for path in client.asked()[4:] if path.endswith(".json")]


@pytest.mark.parametrize("name", GRAPHS)
def test_order_of_the_search(client: Client, repository: TufRepository, name: str) -> None:
    graph, order = GRAPHS[name]
    delegate(repository, graph)
    assert client.download("missingpath") == 1
    assert client.error == "error: the repository has no missingpath\n"
    assert below(client) == order.split()


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("file", ""),
        ("README.md", "A"),
        ("releases/x/v1", "B C"),
        ("releases/y/v1.zip", "B D"),
        ("releases/z/v1.zip", "B"),
        ("secret", ""),
    ],
)
def test_a_role_s_word_counts_for_its_paths_alone(
    client: Client, repository: TufRepository, path: str, order: str
) -> None:
    """D speaks of `releases/z`, and A of `secret`, which nobody delegated to them."""
    repository.add("targets", "file", b"by targets")
    delegate(repository, "T>A *.md, T>B releases/*/*, B>C releases/x/*, B>D releases/y/*.zip")
    for role, its in {
        "A": ("README.md", "secret"),
        "C": ("releases/x/v1",),
        "D": ("releases/y/v1.zip", "releases/z/v1.zip"),
    }.items():
        for each in its:
            repository.add(role, each, f"by {role}".encode())
    repository.publish("A", "C", "D", "snapshot", "timestamp")
    found = path not in {"releases/z/v1.zip", "secret"}
    assert client.download(path) == (0 if found else 1)
    by = order.split()[-1] if order else "targets"
    assert list(client.files.values()) == ([f"by {by}".encode()] if found else [])
    assert below(client) == order.split()


def test_the_first_role_that_has_it_wins(client: Client, repository: TufRepository) -> None:
    delegate(repository, "T>A, T>B")
    for role in "BA":
        repository.add(role, "file", f"by {role}".encode())
    repository.publish("A", "B", "snapshot", "timestamp")
    assert client.download("file") == 0
    assert client.files == {"file": b"by A"}
    assert below(client) == ["A"]


def test_5_6_7_1_endless_delegations(client: Client, repository: TufRepository) -> None:
    """A search ends after nine roles, as on a device."""
    names = [f"R{each:02}" for each in range(20)]
    delegate(repository, ", ".join(f"T>{name}" for name in names))
    assert client.download("missingpath") == 1
    assert below(client) == names[:8]


def test_5_6_7_a_role_that_cannot_be_had_ends_the_search(client: Client, repository: TufRepository) -> None:
    """B has the target, but A stands before it: who hides A gets nobody to take B's word."""
    delegate(repository, "T>A, T>B")
    repository.add("B", "file", b"by B")
    repository.publish("B", "snapshot", "timestamp")
    client.server.hidden.add("1.A.json")
    assert client.download("file") == 1
    assert "the server answers 404" in client.error
    assert client.files == {}


def test_a_role_is_judged_by_the_keys_of_the_role_that_leads_to_it(
    client: Client, repository: TufRepository
) -> None:
    """A and B both delegate to C, with different keys: A's signature is none for B's paths."""
    delegate(repository, "T>A a/*, T>B b/*, A>C a/*, B>C b/*")
    repository.signers["C"] = repository.signers["C"][:1]
    for path in ("a/file", "b/file"):
        repository.add("C", path, path.encode())
    repository.publish("C", "snapshot", "timestamp")
    assert client.download("a/file", "b/file") == 1
    assert "tampered metadata: C was signed by 0/1 keys" in client.error
    assert client.files == {"a%2Ffile": b"a/file"}


@pytest.mark.parametrize("order", [("a/file", "b/file", "a/other"), ("b/file", "a/file", "b/other")])
def test_two_files_of_one_role_are_not_taken_for_each_other(
    client: Client, repository: TufRepository, order: Sequence[str]
) -> None:
    """Once A's C is here, the server answers with B's C, of the same version: each is for its side alone."""
    delegate(repository, "T>A a/*, T>B b/*, A>C a/*, B>C b/*")
    files = []
    for signer, side in zip(repository.signers["C"], "ab", strict=True):
        repository.delegated["C"].targets.clear()
        for path in ("a/file", "b/file", "a/other", "b/other"):
            repository.add("C", path, f"{path} by {side}'s key".encode())
        repository.delegated["C"].version = 1
        repository.signers["C"] = [signer]
        files.append(repository.sign("C"))
    if order[0] == "b/file":
        files.reverse()
    asked = iter(files)
    client.server.change = lambda path, data: next(asked, files[0]) if path.endswith(".C.json") else data
    repository.published["C"] += files
    client.download(*order)
    assert client.files
    for name, data in client.files.items():
        assert data.endswith(f"by {name[0]}'s key".encode()), name


@pytest.mark.parametrize("name", ["?", "#", "/role", "../role", "a b", "%2e%2e", "ä", "."])
def test_an_unusual_role_name_is_quoted(client: Client, repository: TufRepository, name: str) -> None:
    delegate_quoted = DelegatedRole(name, [], 1, False, paths=["*"])
    repository.targets.delegations = Delegations({}, {name: delegate_quoted})
    repository.signers[name] = [new_signer()]
    repository.targets.add_key(repository.signers[name][0].public_key, name)
    repository.delegated[name] = Targets(expires=repository.root.expires)
    repository.add(name, "file", b"content")
    repository.publish(name, "targets", "snapshot", "timestamp")
    assert client.download("file") == 0
    assert client.trusted == {name: 1, "root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}
    assert client.files == {"file": b"content"}


def test_hash_bins(client: Client, repository: TufRepository) -> None:
    """TAP 15: the bin is what the path's hash says, and no other bin is asked for or believed."""
    bins = repository.bins(3, "bin")
    names = list(bins.get_roles())
    for each in range(8):
        path = f"file{each}"
        repository.add(bins.get_role_for_target(path), path, path.encode())
        wrong = names[(names.index(bins.get_role_for_target(path)) + 1) % 8]
        repository.add(wrong, f"wrong{each}", b"wrong")
    repository.publish(*names, "targets", "snapshot", "timestamp")
    for each in range(8):
        assert client.download(f"file{each}") == 0
    client.asked()
    assert client.download("nothing") == 1
    assert set(below(client)) <= {bins.get_role_for_target("nothing")}
    assert client.files == {f"file{each}": f"file{each}".encode() for each in range(8)}


def test_paths_by_the_prefix_of_their_hash(client: Client, repository: TufRepository) -> None:
    digest = sha256(b"file").hexdigest()
    other = sha256(b"other").hexdigest()
    repository.delegate("targets", "A")
    roles = repository.targets.delegations
    assert roles is not None
    assert roles.roles is not None
    keys = roles.roles["A"].keyids
    roles.roles["A"] = DelegatedRole("A", keys, 1, False, path_hash_prefixes=[digest[:4]])
    assert other[:4] != digest[:4]
    for path in ("file", "other"):
        repository.add("A", path, path.encode())
    repository.publish("A", "targets", "snapshot", "timestamp")
    assert client.download("other") == 1
    assert client.download("file") == 0
    assert client.files == {"file": b"file"}
