"""Tell runs apart, so that a checkpoint or a spectrum continues its own run only.

What a run depends on is followed to any depth, see ``ctsa._backend._inside``; what cannot be looked into is listed, for the
caller to refuse.
"""

from typing import Any

from ctsa._backend import backend
from ctsa._backend._inside import Walk


class Identity:
    """Hashes of the parts of a run, as text that a file can hold: ``str(identity)``.

    Attributes:
        unseen: what could not be looked into, by the way that leads to it.
    """

    def __init__(self, **parts: Any):
        walks = {name: Walk(lambda a: backend(a).concrete(a)) for name in parts}
        for name, part in parts.items():
            walks[name].enter(part, name)
        self.text = " ".join(f"{name}={walk.digest.hexdigest()}" for name, walk in walks.items())
        self.unseen = [where for walk in walks.values() for where in walk.unseen]

    def __str__(self) -> str:
        return self.text

    def differs(self, other: str) -> list[str]:
        """Name the parts in which another run differs."""
        theirs, ours = set(other.split()), self.text.split()
        return [part.partition("=")[0] for part in ours if part not in theirs]

    def require(self, name: str, other: str, allow_unverified: bool) -> None:
        """Raise ValueError unless ``other`` is the identity of this run; ``name`` says whose it is.

        Raises:
            ValueError: the runs differ, or what would tell them apart cannot be seen.
        """
        if not other and not allow_unverified:
            raise ValueError(
                f"{name} does not say which run it comes from (an older file, or made by hand): pass "
                "allow_unverified=True if you know that it is this one"
            )
        parts = self.differs(other) if other else []
        if parts:
            raise ValueError(
                f"{name} belongs to another run, with another {' and another '.join(parts)}: pass what that run was given, "
                "or begin anew"
            )
        self.verified(name, allow_unverified)

    def verified(self, name: str, allow_unverified: bool) -> None:
        """Raise ValueError if something that the run depends on cannot be looked into."""
        if self.unseen and not allow_unverified:
            raise ValueError(
                f"{name} cannot be checked to belong to this run: {self.unseen[0]} cannot be looked into; keep what it "
                "depends on in arrays, numbers or attributes, or pass allow_unverified=True"
            )
