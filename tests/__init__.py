"""A package, so that no dependency that ships a `tests` of its own stands before it."""
