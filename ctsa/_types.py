"""Names for the arrays that functions take, with their shapes.

They may be of torch, JAX or NumPy, or nested lists where a function converts, so that a type checker sees ``Any``; a reader
sees the shape, in ``help()`` too.
"""

from typing import Annotated, Any, TypeAlias

State: TypeAlias = Annotated[Any, "(n, d)"]
States: TypeAlias = Annotated[Any, "(..., n, d)"]
Directions: TypeAlias = Annotated[Any, "(k, ..., n, d)"]
Times: TypeAlias = Annotated[Any, "(T,)"]
