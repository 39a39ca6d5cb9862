"""Finding where a NaN is born."""
