"""Motor boards as their firmware behaves on the wire, for tests: strict, and in any clock's time."""
