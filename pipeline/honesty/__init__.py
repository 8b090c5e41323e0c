"""How far a delivered photograph is still its scan: measures, two maps, and an order for review (docs/honesty.md)."""
